"""Anatomies written by hand, as the figures get them."""

from surgeon.skips import Anatomy, Kind, Layout, Merge, Refusal, Skip
from surgeon.tracing.trace import Attempt, TraceSummary, Way


def make_skip(number, *, level=None, channels=16, size=(64, 64), stride=(1, 1), **changes):
    shape = (1, channels, *size)
    values = {
        "id": f"s{number}",
        "kind": Kind.SKIP,
        "merge": Merge.CAT,
        "merge_module": f"decoder.up{number}",
        "source_module": f"encoder.layer{number}",
        "source_shape": shape,
        "merge_shape": shape,
        "implantable": True,
        "reason": "",
        "level": number if level is None else level,
        "stride": stride,
        "layout": Layout.CHANNELS_FIRST,
        "decoder_shape": shape,
        "merge_node": f"cat_{number}",
        "operand_node": f"relu_{number}",
        "operand_index": 0,
        "decoder_node": f"upsample_{number}",
        "source_node": f"relu_{number}",
    }
    return Skip(**{**values, **changes})


def make_anatomy(skips, *, host="SmallUNet", notes=(), refusals=(), shapes=((1, 3, 64, 64),)):
    summary = TraceSummary(Way.EXPORT_FREE, True, True, 16, 16, (), (Attempt(Way.SYMBOLIC, "control flow"),))
    return Anatomy(
        host, tuple(skips), tuple(refusals), tuple(notes), 467_331, shapes, ((1, 2, 64, 64),), summary
    )


def plain_u(levels=4):
    return make_anatomy(
        make_skip(i, channels=16 * 2**i, size=(max(1, 256 >> i),) * 2, stride=(2**i, 2**i))
        for i in range(levels)
    )


def mixed_u():
    skips = [
        make_skip(0, level=0, kind=Kind.DENSE),
        make_skip(1, level=0, kind=Kind.DENSE, merge=Merge.ADD),
        make_skip(2, level=1, size=(32, 32), stride=(2, 2), kind=Kind.LATERAL, source_shape=(1, 16, 64, 64)),
        make_skip(
            3, level=2, size=(16, 16), stride=(4, 4), implantable=False, reason="the operand is complex"
        ),
        make_skip(4, level=2, size=(16, 16), stride=(4, 4), kind=Kind.FUSION, merge=Merge.OTHER),
    ]
    refusal = Refusal(
        "add_3", Merge.ADD, "encoder.block[0]", (1, 16, 64, 64), "same lowest resolution: a residual"
    )
    return make_anatomy(skips, refusals=(refusal,), notes=("two outputs: the larger one was followed",))


def no_skips():
    return make_anatomy((), notes=("every addition is a residual inside one resolution",))
