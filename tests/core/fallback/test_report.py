"""What is told of attempts is plain data, the same in every framework."""

from __future__ import annotations

import json

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import Attempt, Call, FallbackPolicy, Health, Member, Receipt
from chutes_core.fallback.report import ATTEMPTS, FIRST_HOP, beside, report
from chutes_core.fallback.stream import FallbackReply
from chutes_core.response import Reply
from chutes_core.usage import Usage


def test_an_attempt_is_plain_data() -> None:
    """With what it used, as far as that is known."""
    told = report(Attempt("acme/one", "failed", Kind.RESET, None, 0.5, "gone", Usage(9, 5, 14), 0.25))
    assert json.loads(json.dumps(told)) == told
    assert (told["kind"], told["usage"]["total_tokens"], told["cost"]) == ("reset", 14, 0.25)
    assert report(Attempt("acme/one", "skipped"))["usage"] is None


def test_an_answer_names_the_model_that_gave_it() -> None:
    """As the answer says, else as the member is called; the first hop only where the policy asks for one."""
    members = [Member("acme/one"), Member("acme/two")]
    for served, policy in ((None, FallbackPolicy()), ("acme/two-0731", FallbackPolicy(first_hop="server"))):
        call = Call(members, policy, Health(), now=lambda: 0.0)
        call.next()
        call.failed(failure(Kind.COLD))
        call.next()
        call.succeeded(receipt=Receipt(served))
        told = beside(FallbackReply.of(Reply(None, served, ()), call))
        assert told["model_name"] == (served or "acme/two")
        assert [each["outcome"] for each in told[ATTEMPTS]] == ["failed", "answered"]
        assert told.get(FIRST_HOP, "").startswith("member: ") is (policy.first_hop == "server")
