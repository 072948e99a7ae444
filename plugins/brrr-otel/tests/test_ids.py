"""The ids of traces and spans depend only on the ids of brrr, so all workers of all versions agree on them."""

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import format_span_id, format_trace_id

from brrr_otel import call_context
from brrr_otel.ids import ChosenIds

ROOT = "AAECAwQFBgcICQoLDA0ODw"


def test_ids_of_call_do_not_change_between_versions() -> None:
    context = call_context(ROOT, "0" * 64)
    assert format_trace_id(context.trace_id) == "5de8c8d4bc06c18ffbd1fdd98cfda8c5"
    assert format_span_id(context.span_id) == "d49e4ba100398688"
    assert context.is_valid
    assert context.is_remote


def test_trace_id_depends_on_the_root_and_span_id_on_root_and_call() -> None:
    contexts = [call_context(root_id, call_hash) for root_id in (ROOT, "other") for call_hash in ("a", "b")]
    assert len({context.trace_id for context in contexts}) == 2
    assert len({context.span_id for context in contexts}) == 4


def test_chosen_ids_apply_only_in_their_block() -> None:
    ids, chosen = ChosenIds(RandomIdGenerator()), call_context(ROOT, "a")
    with ids.choose(chosen):
        assert (ids.generate_trace_id(), ids.generate_span_id()) == (chosen.trace_id, chosen.span_id)
    assert ids.generate_trace_id() != chosen.trace_id
    assert ids.generate_span_id() != chosen.span_id
