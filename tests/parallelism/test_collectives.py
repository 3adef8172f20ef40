"""The reader of collectives: texts made by hand, compiled programs of known traffic."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from afm_ref.parallelism.compiled import collectives
from afm_ref.parallelism.compiled.collectives import Collective
from afm_ref.parallelism.mesh import MeshShape, make_mesh

HEADER = "HloModule test, entry_computation_layout={()->f32[]}, replica_count=1, num_partitions=8\n\n"
GROUPS = "replica_groups=[2,4]<=[8]"


def computation(name, *lines):
    """Return the text of one of them, of an argument p."""
    lines = ("%p = f32[16,4]{1,0} parameter(0)", *lines)
    return f"{name} (p: f32[16,4]) -> f32[] {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n\n"


def module(*lines, others=""):
    added = "%sum (a: f32[], b: f32[]) -> f32[] {\n  %a = f32[] parameter(0)\n  ROOT %add = f32[] add(%a, %a)\n}\n\n"
    return HEADER + added + others + computation("ENTRY %main", *lines).replace("%p", "%x")


def one(*lines, **kwargs):
    (found,) = collectives.of(module(*lines, **kwargs))
    return found


def test_every_syntax_of_groups():
    for groups, size in (
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
    ):
        found = one(f"ROOT %r = f32[16,4]{{1,0}} all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%sum")
        assert (found.kind, found.group_size, found.operand_bytes) == ("all-reduce", size, 256), groups


def test_every_kind():
    pairs, tiled = "source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", "f32[16,4]{1,0:T(8,128)S(1)}"
    for kind, type_, attributes, result, sent in (
        ("all-gather", "f32[64,4]{1,0}", f"{GROUPS}, dimensions={{0}}", 1024, 768),
        ("reduce-scatter", "f32[4,4]{1,0}", f"{GROUPS}, dimensions={{0}}, to_apply=%sum", 64, 192),
        ("all-reduce", "f32[16,4]{1,0}", f"{GROUPS}, to_apply=%sum", 256, 384),
        ("all-to-all", "f32[16,4]{1,0}", f"{GROUPS}, dimensions={{0}}", 256, 192),
        ("collective-permute", tiled, pairs, 256, 256),
    ):
        for operand in ("%x", "f32[16,4]{1,0} %x"):
            found = one(f"ROOT %r = {type_} {kind}({operand}), {attributes}")
            assert found == Collective(kind, 256, result, 4, 1) and found.bytes_sent == sent


def test_what_is_asynchronous_counts_once_at_its_start():
    started = f"%s = (f32[16,4]{{1,0}}, f32[64,4]{{1,0}}) all-gather-start(%x), {GROUPS}, dimensions={{0}}"
    assert one(started, "ROOT %d = f32[] all-gather-done(%s)") == Collective("all-gather", 256, 1024, 4, 1)
    found = one(
        "%s = ((f32[16,4]), f32[4,4], s32[]) async-start(%x), calls=%wrapped",
        "%u = ((f32[16,4]), f32[4,4], s32[]) async-update(%s), calls=%wrapped",
        "ROOT %d = f32[4,4] async-done(%u), calls=%wrapped",
        others=computation("%wrapped", f"ROOT %rs = f32[4,4]{{1,0}} reduce-scatter(%p), {GROUPS}, to_apply=%sum"),
    )
    assert found == Collective("reduce-scatter", 256, 64, 4, 1)


def test_a_tuple_is_the_sum_of_its_arrays_and_a_copy_of_its_own_is_not_sent():
    both = "(f32[16,4]{1,0}, /*index=1*/bf16[10]{0}) all-reduce(%x, %h), replica_groups={}, to_apply=%sum"
    found = one("%h = bf16[10]{0} constant({...})", f"ROOT %r = {both}")
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
    """Outside five times, as the compiler says; inside from 2 to below 9, read from the loop; as TPUs write it, too."""
    found = one(
        "%zero = s32[] constant(0)",
        "%init = (s32[], f32[16,4]{1,0}) tuple(%zero, %x)",
        "ROOT %w = (s32[], f32[16,4]{1,0}) while(%init), condition=%cond, body=%outer_body, "
        'backend_config={"known_trip_count":{"n":"5"},"known_induction_variable":{"tuple_index":"0"}}',
        others=LOOPS.replace("NNN", "9"),
    )
    assert (found.count, found.op_name, found.bytes_sent) == (5 * 7, "a/while/body/psum", 5 * 7 * 384)
    copied = LOOPS.replace("NNN", "6").replace("tuple(%next, %z)", "tuple(%next.copy, %z)")
    copied = copied.replace("add(%i, %one)\n", "add(%i.copy, %one)\n  %next.copy = s32[] copy(%next)\n")
    found = one(
        "%zero = s32[] constant(0)",
        "%start = s32[]{:T(128)} copy(%zero), backend_config={}",
        "%init = (s32[], f32[16,4]{1,0}) tuple(%start, %x)",
        "ROOT %w = (s32[], f32[16,4]{1,0}) while(%init), condition=%cond, body=%body",
        others=copied.replace("  %y = f32[16,4]{1,0} get", "  %i.copy = s32[] copy(%i)\n  %y = f32[16,4]{1,0} get", 1),
    )
    assert found.count == 6


def test_calls_are_followed_and_the_larger_branch_counts():
    once = computation("%once", f"ROOT %r = f32[16,4] all-reduce(%p), {GROUPS}, to_apply=%sum")
    text = module(
        "%c = f32[16,4] call(%x), to_apply=%once",
        "%b = f32[16,4] conditional(%i, %x, %x), branch_computations={%never, %once}",
        "ROOT %f = f32[16,4] fusion(%x), kind=kLoop, calls=%never",
        others=once + computation("%never", "ROOT %r = f32[16,4] copy(%p)"),
    )
    assert [c.count for c in collectives.of(text)] == [1, 1]


def test_a_fused_reduce_scatter_of_a_tpu_and_an_all_reduce_that_rounds_its_sums():
    """A tuple of which one part is rounded: what enters counts."""
    reduced = f"%r = f32[16,4] all-reduce(%p), {GROUPS}, to_apply=%sum"
    kept = "ROOT %s = f32[4,4] dynamic-slice(%r, %i), dynamic_slice_sizes={4,4}"
    others = computation("%all-reduce-scatter.1", reduced, kept)
    found = one("ROOT %f = f32[4,4] fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1", others=others)
    assert found == Collective("reduce-scatter", 256, 64, 4, 1)
    found = one(f"ROOT %r = (bf16[16,4], f32[16,4]) all-reduce(%x, %x), {GROUPS}, to_apply=%sum")
    assert found == Collective("all-reduce", 512, 512, 4, 1)


def test_what_cannot_be_read_is_refused():
    endless = LOOPS.replace("constant(NNN)", "parameter(1)")
    for call, told in (
        (lambda: collectives.of("hello"), "no ENTRY"),
        (lambda: one(f"ROOT %r = f32[32,4] all-gather(%x), {GROUPS}, dimensions={{0}}"), "should give 1024 bytes"),
        (lambda: one(f"ROOT %r = f32[4,4] all-reduce(%x), {GROUPS}, to_apply=%sum"), "should give 256 bytes"),
        (lambda: one("ROOT %w = (s32[]) while(%x), condition=%cond, body=%body", others=endless), "how often it runs"),
        (lambda: collectives.sent("broadcast", 8, 2), "unknown collective"),
        (lambda: collectives.sent("all-reduce", 8, 0), "at least 1"),
    ):
        with pytest.raises(ValueError, match=told):
            call()


MESH = make_mesh(MeshShape(data=2, model=4))


def test_compiled_program_of_known_traffic():
    """Two bytes a number after partitioning; at the end this compiler has made float32 of some."""

    def local(x, w):  # x: [8, 32], w: [8, 32] on each device
        def step(x, _):
            x = x @ jax.lax.all_gather(w, "model", axis=0, tiled=True)  # 6 times [32, 32] from 4
            x = jax.lax.psum_scatter(x, "model", scatter_dimension=1, tiled=True)  # 6 times [8, 32] among 4
            x = jax.lax.all_gather(x, "model", axis=1, tiled=True)  # 6 times [8, 32]
            return jax.lax.ppermute(x, "data", [(0, 1), (1, 0)]), None  # 6 times [8, 32]

        twice = lambda x, _: jax.lax.scan(step, x, None, length=2)  # noqa: E731
        x, _ = jax.lax.scan(twice, jax.lax.pcast(x, "model", to="varying"), None, length=3)
        x = jax.lax.all_to_all(x, "model", 0, 1, tiled=True)  # once [8, 32]
        return jax.lax.psum(x, ("data", "model"))  # once [2, 128] among 8

    sharded = jax.shard_map(local, mesh=MESH, in_specs=(P("data"), P("model")), out_specs=P())
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((16, 32), (32, 32)))
    compiled, found = collectives.compile_and_count(jax.jit(sharded).lower(*shapes))
    rows = collectives.by_kind(found)
    assert {kind: (row["count"], row["bytes_sent"] / 2) for kind, row in rows.items()} == {
        "all-gather": (12, 6 * 3 * 8 * 32 + 6 * 3 * 8 * 8),
        "reduce-scatter": (6, 6 * 3 * 8 * 8),
        "collective-permute": (6, 6 * 8 * 32),
        "all-to-all": (1, 3 * 8 * 32 / 4),
        "all-reduce": (1, 2 * 7 * 8 * 32 / 8),
    }
    assert collectives.total_bytes(found) == 9088 * 2
    assert 9088 * 2 < collectives.total_bytes(collectives.of(compiled)) <= 9088 * 4


def test_what_the_partitioner_adds_is_read():
    """By annotation only: a sum over rows that lie on two devices needs one all-reduce of the [32] result."""
    rows = NamedSharding(MESH, P("data"))
    lowered = jax.jit(lambda x: x.sum(0), in_shardings=rows).lower(jax.ShapeDtypeStruct((16, 32), jnp.float32))
    (found,) = collectives.of(lowered)
    assert (found.kind, found.operand_bytes, found.group_size, found.bytes_sent) == ("all-reduce", 128, 2, 128)
    assert collectives.of(jax.jit(lambda x: x + 1).lower(jnp.ones(3))) == ()  # on one device
