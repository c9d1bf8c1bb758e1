"""What schemathesis is told about our GraphQL (xtask/src/schemathesis.rs): values of our scalars, and what no answer is."""

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

DATES = st.dates().map(lambda date: date.isoformat())
TIMES = st.datetimes().map(lambda time: time.isoformat() + "Z")

schemathesis.graphql.scalar("NaiveDate", DATES.map(nodes.String))
schemathesis.graphql.scalar("DateTime", TIMES.map(nodes.String))
schemathesis.graphql.scalar("SafeInt", st.integers(-(2**53) + 1, 2**53 - 1).map(nodes.Int))

# Ours alone when we are told that there is too much to do, or that an answer takes too long.
FAULTS = {"internal", "unavailable"}


@schemathesis.check
def no_fault_of_the_server(ctx, response, case):
    """No 5xx, and no answer that says that the server failed; every error says its code."""
    assert response.status_code < 500, f"answered {response.status_code}: {response.text}"
    answer = response.json()
    for error in answer.get("errors", []):
        code = error.get("extensions", {}).get("code")
        assert code, f"an error without a code: {error}"
        assert code not in FAULTS, f"the server failed: {error}"
