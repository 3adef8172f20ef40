"""What cannot be done is refused in words that say what to do instead."""

import dataclasses

import jax
import numpy as np
import pytest

from afm_ref import losses, transformer
from afm_ref.config import AFM_ON_DEVICE, AFMConfig
from afm_ref.containers import Stream
from afm_ref.parallelism import processes
from afm_ref.parallelism.annotated import annotation
from afm_ref.parallelism.annotated.axis_rules import Rules
from afm_ref.parallelism.mesh import MeshShape, make_mesh, use_fake_devices
from afm_ref.parallelism.predicted import chooser, roofline
from afm_ref.parallelism.sharded.pipelining import Pipeline
from afm_ref.parallelism.sharded.ring_attention import sequence_order
from afm_ref.parallelism.sharded.strategies import NextToken, Plan, place, place_batch, placed_batch_shapes
from afm_ref.parallelism.simulator import exchange, pipeline_schedules, ring_collectives
from afm_ref.parallelism.simulator.cluster import Cluster, einsum

CFG = AFMConfig(d_model=8, n_layers=4, n_heads=6, n_kv_heads=2, head_dim=2, d_ff=12, vocab_size=16)
PARAMS = transformer.init(CFG, 0)
CLUSTER, X = Cluster(a=2), np.zeros((16, 8))
TD = CLUSTER.place(X, "TD")


def batch(rows, length=8):
    return losses.Batch(*np.zeros((3, rows, length), np.int32), np.zeros((rows, length), np.int32))


def cut(mesh, *changes, **options):
    return Plan(dataclasses.replace(CFG, **dict(changes)), mesh, **options)


def annotated(layer):
    return Rules().specs(PARAMS._replace(layers=(layer,)))


def launched(count=2, **options):
    return processes.launch(["true"], count, **options)


REFUSED = [
    (lambda: MeshShape.parse("tensor=2"), "'tensor' in 'tensor=2' is no axis"),
    (lambda: MeshShape.parse("data=2,data=4"), "stands twice"),
    (lambda: MeshShape.parse("data"), "needs a number of devices"),
    (lambda: MeshShape.parse("data=-2"), "needs a number of devices"),
    (lambda: MeshShape.parse("data=0"), "at least 1"),
    (lambda: MeshShape.parse(""), "is no axis"),
    (lambda: make_mesh(MeshShape(data=16)), r"needs 16 devices and there are 8.*use_fake_devices\(16\)"),
    (lambda: make_mesh(MeshShape(data=2), jax.devices()[:1]), "needs 2 devices and there are 1"),
    (lambda: use_fake_devices(257), "beyond 256"),
    (lambda: use_fake_devices(0), "at least 1"),
    (lambda: launched(1), "at least 2"),
    (lambda: launched(coordinator="10.0.0.1:1234"), "give both"),
    (lambda: launched(index=1), "give both"),
    (lambda: launched(coordinator="10.0.0.1:1234", index=2), "numbered 0 to 1"),
    (lambda: launched(coordinator="10.0.0.1", index=0), "host:port"),
    (lambda: pipeline_schedules.gpipe(0, 2), "at least 1, got 0 and 2"),
    (lambda: pipeline_schedules.gpipe(2, 0), "at least 1, got 2 and 0"),
    (lambda: pipeline_schedules.gpipe(2, 2, 0.0), "must be positive"),
    (lambda: pipeline_schedules.one_f_one_b(2, 2, 0.0), "must be positive"),
    (lambda: ring_collectives.all_reduce([]), "at least one device"),
    (lambda: ring_collectives.all_gather([np.zeros(2), np.zeros(3)]), "one shape and dtype"),
    (lambda: ring_collectives.all_gather([np.zeros(2), np.zeros(2, int)]), "one shape and dtype"),
    (lambda: ring_collectives.reduce_scatter([np.zeros(4)] * 3), "pad it to 6"),
    (lambda: ring_collectives.all_to_all([np.zeros((2, 3))] * 2, 1, 0), "pad it to 4"),
    (lambda: ring_collectives.permute([np.zeros(1)] * 3, 5), "use shift % 3 = 2"),
    (lambda: ring_collectives.Link(bandwidth_bytes_per_s=0.0), "bandwidth > 0"),
    (lambda: CLUSTER.place(X, "T"), "must name each of the 2 axes"),
    (lambda: CLUSTER.place(X, "TT"), "own letter"),
    (lambda: CLUSTER.place(X, "TD", model="D"), "no axis 'model'"),
    (lambda: CLUSTER.place(X, "TD", a="F"), "name one of the axes"),
    (lambda: CLUSTER.place(X[:, :7], "TD", a="D"), "mesh axis 'a' cuts axis 1 into 2 equal chunks.*pad it to 8"),
    (lambda: einsum("TD,DF->TF", TD, TD), "does not fit the axes"),
    (lambda: exchange.split(TD, "a", "F"), "no axis 'F'"),
    (lambda: exchange.all_gather(TD, "b"), "the mesh has no axis 'b'"),
    (lambda: TD.on(7), "device 7 holds nothing"),
    (lambda: TD + CLUSTER.place(X, "FD"), "axes must agree"),
    (lambda: Cluster(a=0), "at least one device"),
    (lambda: cut("fsdp=3"), "d_model 8 cannot be cut over fsdp=3"),
    (lambda: cut("model=4"), "n_kv_heads 2 cannot be cut over model=4"),
    (lambda: cut("model=2", ("d_ff", 15)), "d_ff 15 cannot be cut over model=2"),
    (lambda: cut("model=2", ("vocab_size", 15)), "vocab_size 15 cannot be cut over model=2"),
    (lambda: cut("pipe=3"), "n_layers 4 cannot be cut over pipe=3"),
    (lambda: cut("seq=2"), 'sequence="gather" or "ring"'),
    (lambda: cut("seq=2", sequence="norm"), 'sequence="gather" or "ring"'),
    (lambda: cut("data=2", sequence="rings"), "sequence is 'rings'"),
    (lambda: cut("fsdp=2", zero=4), "zero is 4"),
    (lambda: cut("fsdp=2", remat=False), "zero=3 gathers the weights again"),
    (lambda: cut("pipe=2,fsdp=2", zero=2), "zero=2 in a pipeline"),
    (lambda: cut("pipe=2", microbatches=0), "microbatches is 0"),
    (lambda: cut("data=2", microbatches=2), "microbatches are a pipeline's"),
    (lambda: place_batch(batch(6), cut("data=2,pipe=2")), r"batch of 6 sequences.*take a multiple of 4"),
    (lambda: placed_batch_shapes(cut("model=2", sequence="norm"), 8, 5), "5 positions cannot be cut over model=2"),
    (lambda: placed_batch_shapes(cut("seq=4", sequence="gather"), 8, 6), "6 positions cannot be cut into 4 equal"),
    (lambda: sequence_order(12, 4, zigzag=True), r"12 positions .* into 8 equal chunks \(zigzag, seq=4\).*of 8"),
    (lambda: Pipeline((), 1).run(None, Stream(X), cache=()), "keeps no cache"),
    (lambda: roofline.step(cut("data=1"), 8, 256, roofline.V4, slices=2), "data=1 must be a multiple of 2 slices"),
    (lambda: chooser.choose(AFM_ON_DEVICE, 0, roofline.V4, 64, 4096), "give at least 1"),
    (lambda: annotation.shard(PARAMS, make_mesh(MeshShape(model=3))), r"embed \[16, 8\] .* 3 along axis 0 \(model\)"),
    (lambda: annotation.shard(PARAMS, make_mesh(MeshShape()), Rules(vocab="tensor")), "mesh axis 'tensor'"),
    (lambda: annotation.shard_batch(batch(8), make_mesh(MeshShape(data=3))), r"tokens \[8, 8\] cannot be cut into 3"),
]


OF_ANOTHER_TYPE = [
    (lambda: annotated(PARAMS.layers[0]._replace(wq="a palette")), r"cannot annotate layers\.0\.wq, a str"),
    (lambda: annotated({"wq": PARAMS.embed}), r"cannot annotate layers\.0\.wq"),
    (lambda: NextToken(cut("data=2"))(place(PARAMS, cut("data=2")), batch(8)), "takes what place_batch"),
]
TOO_LATE = [(lambda: use_fake_devices(16), r"already started with 8 device\(s\), too late for 16.*restart the kernel")]
ERRORS = {ValueError: REFUSED, TypeError: OF_ANOTHER_TYPE, RuntimeError: TOO_LATE}


@pytest.mark.parametrize("error, call, told", [(error, *case) for error, cases in ERRORS.items() for case in cases])
def test_what_cannot_be_done_is_told(error, call, told):
    with pytest.raises(error, match=told):
        call()


def test_as_many_fake_devices_as_there_are_need_nothing():
    use_fake_devices(jax.device_count())
