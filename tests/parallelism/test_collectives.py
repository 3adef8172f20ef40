"""The reader of collectives: texts made by hand, rings walked hop by hop, compiled programs of known traffic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.compiled.collectives import Collective
from afm_ref.parallelism.simulator import ring_collectives

HEADER = "HloModule test, entry_computation_layout={()->f32[]}, replica_count=1, num_partitions=8\n\n"
SUM = "%sum (a: f32[], b: f32[]) -> f32[] {\n  %a = f32[] parameter(0)\n  %b = f32[] parameter(1)\n" + (
    "  ROOT %add = f32[] add(%a, %b)\n}\n\n"
)


def module(*lines, others=""):
    entry = "ENTRY %main (x: f32[16,4]) -> f32[] {\n  %x = f32[16,4]{1,0} parameter(0)\n"
    return HEADER + SUM + others + entry + "".join(f"  {line}\n" for line in lines) + "}\n"


def one(*lines, **kwargs):
    (found,) = collectives.of(module(*lines, **kwargs))
    return found


@pytest.mark.parametrize(
    "groups, size",
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("{{0,1,2,3,4,5,6,7}}", 8),
        ("{}", 8),  # everyone, as the header counts them
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("[4,2]<=[2,2,2]T(0,2,1)", 2),
        ("mesh['data'=2,'model'=4] {'model'}", 4),
        ("mesh['data'=2,'model'=4] {'data','model'}", 8),
        ("mesh['data'=2,'model'=4], device_ids=([8]) {'data'}", 2),
        ("mesh['data'=8] {'data':(2)4}", 4),
    ],
)
def test_every_syntax_of_groups(groups, size):
    found = one(f"ROOT %r = f32[16,4]{{1,0}} all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%sum")
    assert (found.kind, found.group_size, found.operand_bytes) == ("all-reduce", size, 256)


@pytest.mark.parametrize(
    "line, kind, operand, result, sent",
    [
        ("f32[64,4]{1,0} all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}", "all-gather", 256, 1024, 768),
        (
            "f32[4,4]{1,0} reduce-scatter(%x), replica_groups=[2,4]<=[8], dimensions={0}, to_apply=%sum",
            "reduce-scatter", 256, 64, 192,
        ),
        ("f32[16,4]{1,0} all-reduce(f32[16,4]{1,0} %x), replica_groups=[2,4]<=[8], to_apply=%sum", "all-reduce",
         256, 256, 384),
        ("f32[16,4]{1,0} all-to-all(%x), replica_groups=[2,4]<=[8], dimensions={0}", "all-to-all", 256, 256, 192),
        ("f32[16,4]{1,0:T(8,128)S(1)} collective-permute(%x), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}",
         "collective-permute", 256, 256, 256),
    ],
)  # fmt: skip
def test_every_kind(line, kind, operand, result, sent):
    found = one(f"ROOT %r = {line}")
    assert found == Collective(kind, operand, result, 4, 1)
    assert found.bytes_sent == sent


def test_what_is_asynchronous_counts_once_at_its_start():
    started = "f32[64,4]{1,0}) all-gather-start(%x), replica_groups=[2,4]<=[8], dimensions={0}"
    found = one(f"%s = (f32[16,4]{{1,0}}, {started}", "ROOT %d = f32[] all-gather-done(%s)")
    assert found == Collective("all-gather", 256, 1024, 4, 1)
    wrapped = "%wrapped (p: f32[16,4]) -> f32[4,4] {\n  %p = f32[16,4]{1,0} parameter(0)\n" + (
        "  ROOT %rs = f32[4,4]{1,0} reduce-scatter(%p), replica_groups=[2,4]<=[8], to_apply=%sum\n}\n\n"
    )
    found = one(
        "%s = ((f32[16,4]), f32[4,4], s32[]) async-start(%x), calls=%wrapped",
        "%u = ((f32[16,4]), f32[4,4], s32[]) async-update(%s), calls=%wrapped",
        "ROOT %d = f32[4,4] async-done(%u), calls=%wrapped",
        others=wrapped,
    )
    assert found == Collective("reduce-scatter", 256, 64, 4, 1)


def test_a_tuple_is_the_sum_of_its_arrays_and_a_copy_of_its_own_is_not_sent():
    found = one(
        "%h = bf16[10]{0} constant({...})",
        "ROOT %r = (f32[16,4]{1,0}, /*index=1*/bf16[10]{0}) all-reduce(%x, %h), replica_groups={}, to_apply=%sum",
    )
    assert (found.operand_bytes, found.bytes_sent) == (276, 2 * 7 * 276 / 8)
    assert one("ROOT %r = f32[16,4] collective-permute(%x), source_target_pairs={{0,0},{1,1}}").bytes_sent == 0


LOOPS = """
%cond (p: (s32[], f32[16,4])) -> pred[] {
  %p = (s32[], f32[16,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(NNN)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (p: (s32[], f32[16,4])) -> (s32[], f32[16,4]) {
  %p = (s32[], f32[16,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %y = f32[16,4]{1,0} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %z = f32[16,4]{1,0} all-reduce(%y), replica_groups=[2,4]<=[8], to_apply=%sum, metadata={op_name="a/while/body/psum"}
  ROOT %t = (s32[], f32[16,4]{1,0}) tuple(%next, %z)
}

%outer_body (p: (s32[], f32[16,4])) -> (s32[], f32[16,4]) {
  %p = (s32[], f32[16,4]{1,0}) parameter(0)
  %zero = s32[] constant(2)
  %y = f32[16,4]{1,0} get-tuple-element(%p), index=1
  %init = (s32[], f32[16,4]{1,0}) tuple(%zero, %y)
  ROOT %w = (s32[], f32[16,4]{1,0}) while(%init), condition=%cond, body=%body
}

"""


def test_loops_multiply_and_nest():
    """Outside: five times, as the compiler says. Inside: from 2 to below 9, read from the loop itself."""
    found = one(
        "%zero = s32[] constant(0)",
        "%init = (s32[], f32[16,4]{1,0}) tuple(%zero, %x)",
        "ROOT %w = (s32[], f32[16,4]{1,0}) while(%init), condition=%cond, body=%outer_body, "
        'backend_config={"known_trip_count":{"n":"5"},"known_induction_variable":{"tuple_index":"0"}}',
        others=LOOPS.replace("NNN", "9"),
    )
    assert (found.count, found.op_name) == (5 * 7, "a/while/body/psum")
    assert found.bytes_sent == 5 * 7 * 384


def test_a_loop_of_unknown_length_is_refused():
    text = module(
        "ROOT %w = (s32[], f32[16,4]{1,0}) while(%x), condition=%cond, body=%body",
        others=LOOPS.replace("constant(NNN)", "parameter(1)"),
    )
    with pytest.raises(ValueError, match="does not say how often it runs"):
        collectives.of(text)


def test_calls_are_followed_and_the_larger_branch_counts():
    reduce = "all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%sum"
    others = "".join(
        f"%{name} (p: f32[16,4]) -> f32[16,4] {{\n  %p = f32[16,4] parameter(0)\n  ROOT %r = f32[16,4] {line}\n}}\n\n"
        for name, line in (("once", reduce), ("never", "copy(%p)"))
    )
    found = collectives.of(
        module(
            "%c = f32[16,4] call(%x), to_apply=%once",
            "%b = f32[16,4] conditional(%i, %x, %x), branch_computations={%never, %once}",
            "ROOT %f = f32[16,4] fusion(%x), kind=kLoop, calls=%never",
            others=others,
        )
    )
    assert [c.count for c in found] == [1, 1]


def test_a_fused_reduce_scatter_of_a_tpu():
    others = "%all-reduce-scatter.1 (p: f32[16,4]) -> f32[4,4] {\n  %p = f32[16,4] parameter(0)\n" + (
        "  %r = f32[16,4] all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%sum\n"
        "  ROOT %s = f32[4,4] dynamic-slice(%r, %i), dynamic_slice_sizes={4,4}\n}\n\n"
    )
    found = one("ROOT %f = f32[4,4] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1", others=others)
    assert found == Collective("reduce-scatter", 256, 64, 4, 1)


def test_an_all_reduce_of_a_tpu_that_rounds_its_sums():
    """A tuple of which one part is rounded: what enters counts."""
    type_ = "(bf16[16,4], f32[16,4])"
    found = one(f"ROOT %r = {type_} all-reduce(%x, %x), replica_groups=[2,4]<=[8], to_apply=%sum")
    assert found == Collective("all-reduce", 512, 512, 4, 1)
    with pytest.raises(ValueError, match="should give 256 bytes"):
        one("ROOT %r = f32[4,4] all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%sum")


def test_a_text_that_is_not_a_module_and_a_wrong_size_are_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives.of("hello")
    with pytest.raises(ValueError, match="should give 1024 bytes"):
        one("ROOT %r = f32[32,4] all-gather(%x), replica_groups=[2,4]<=[8], dimensions={0}")
    with pytest.raises(ValueError, match="unknown collective"):
        collectives.sent("broadcast", 8, 2)
    with pytest.raises(ValueError, match="at least 1"):
        collectives.sent("all-reduce", 8, 0)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_bytes_of_a_ring_counted_hop_by_hop(n):
    """The simulator's rings hand chunks of 8 bytes on, one by one."""
    part, whole = [np.zeros(1)] * n, [np.zeros(n)] * n
    for kind, trace in (
        ("all-gather", ring_collectives.all_gather(part)),
        ("reduce-scatter", ring_collectives.reduce_scatter(whole)),
        ("all-reduce", ring_collectives.all_reduce(whole)),
        ("collective-permute", ring_collectives.permute(whole)),
    ):
        assert collectives.sent(kind, 8 * n, n) == trace.bytes_per_device
    assert collectives.sent("all-to-all", 8 * n, n) == 8 * (n - 1)  # a chunk for each of the others


@pytest.fixture(scope="module")
def mesh():
    assert jax.device_count() >= 8, "tests/parallelism needs 8 fake devices: JAX_NUM_CPU_DEVICES=8"
    return jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:8])


def program(mesh):
    """Five kinds of collective, three of them in nested loops of 3 and 2 rounds."""

    def outer(x, w):  # x: [8, 32], w: [8, 32] on each device
        def inner(x, _):
            x = x @ jax.lax.all_gather(w, "model", axis=0, tiled=True)  # 6 times [32, 32] from 4
            x = jax.lax.psum_scatter(x, "model", scatter_dimension=1, tiled=True)  # 6 times [8, 32] among 4
            x = jax.lax.all_gather(x, "model", axis=1, tiled=True)  # 6 times [8, 32]
            return jax.lax.ppermute(x, "data", [(0, 1), (1, 0)]), None  # 6 times [8, 32]

        def middle(x, _):
            return jax.lax.scan(inner, x, None, length=2)

        x, _ = jax.lax.scan(middle, jax.lax.pcast(x, "model", to="varying"), None, length=3)
        x = jax.lax.all_to_all(x, "model", 0, 1, tiled=True)  # once [8, 32]
        return jax.lax.psum(x, ("data", "model"))  # once [2, 128] among 8

    sharded = jax.shard_map(outer, mesh=mesh, in_specs=(P("data"), P("model")), out_specs=P())
    x, w = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((16, 32), (32, 32)))
    return jax.jit(sharded).lower(x, w)


def test_compiled_program_of_known_traffic(mesh):
    """Two bytes a number after partitioning; at the end this compiler has made float32 of some."""
    compiled, found = collectives.compile_and_count(program(mesh))
    assert collectives.by_kind(found) == {
        "all-gather": {"count": 12, "bytes_sent": 2 * (6 * 3 * 8 * 32 + 6 * 3 * 8 * 8)},
        "reduce-scatter": {"count": 6, "bytes_sent": 2 * 6 * 3 * 8 * 8},
        "collective-permute": {"count": 6, "bytes_sent": 2 * 6 * 8 * 32},
        "all-to-all": {"count": 1, "bytes_sent": 2 * 3 * 8 * 32 / 4},
        "all-reduce": {"count": 1, "bytes_sent": 2 * 2 * 7 * 8 * 32 / 8},
    }
    assert collectives.total_bytes(found) == 9088 * 2
    assert 9088 * 2 < collectives.total_bytes(collectives.of(compiled)) <= 9088 * 4


def test_what_the_partitioner_adds_is_read(mesh):
    """By annotation only: a sum over rows that lie on two devices needs one all-reduce of the [32] result."""
    rows = NamedSharding(mesh, P("data"))
    lowered = jax.jit(lambda x: x.sum(0), in_shardings=rows).lower(jax.ShapeDtypeStruct((16, 32), jnp.float32))
    (found,) = collectives.of(lowered)
    assert (found.kind, found.operand_bytes, found.group_size, found.bytes_sent) == ("all-reduce", 128, 2, 128)
    assert collectives.of(jax.jit(lambda x: x + 1).lower(jnp.ones(3))) == ()  # on one device


def test_a_loop_whose_counter_is_copied_on_the_way():
    """As TPUs write it: no trip count, and the counter's start and next value pass through copies."""
    others = LOOPS.replace("NNN", "6").replace("tuple(%next, %z)", "tuple(%next.copy, %z)")
    others = others.replace("add(%i, %one)\n", "add(%i.copy, %one)\n  %next.copy = s32[] copy(%next)\n")
    others = others.replace("  %y = f32[16,4]{1,0} get", "  %i.copy = s32[] copy(%i)\n  %y = f32[16,4]{1,0} get", 1)
    found = one(
        "%zero = s32[] constant(0)",
        "%start = s32[]{:T(128)} copy(%zero), backend_config={}",
        "%init = (s32[], f32[16,4]{1,0}) tuple(%start, %x)",
        "ROOT %w = (s32[], f32[16,4]{1,0}) while(%init), condition=%cond, body=%body",
        others=others,
    )
    assert found.count == 6
