"""Every statement finds its rows by an index, so its cost does not grow with the backlog."""

import pytest

from brrr_sqlite import expiry, messages, records

STATEMENTS = {
    f"{module.__name__}.{name}": value
    for module in (messages, records, expiry)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
}

TABLES = ["message", "dead", "record", "counter"]


def parameters(sql):
    return {"topic": "t", "now": 1} if ":topic" in sql else [1] * sql.count("?")


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_scans_or_sorts(backend, name):
    sql = STATEMENTS[name]
    rows = await backend._connection.run(lambda c: c.execute(f"EXPLAIN QUERY PLAN {sql}", parameters(sql)).fetchall())
    plan = [row[3] for row in rows]
    # Scans of what a statement itself contains or has found are fine.
    assert not [step for step in plan if step.split()[:2] in [["SCAN", table] for table in TABLES]], plan
    assert not [step for step in plan if "TEMP B-TREE" in step and "UNION" not in step], plan
    if "count(*)" in sql:
        assert all("COVERING INDEX" in step for step in plan if step.startswith("SEARCH")), plan


@pytest.mark.parametrize("backlog", ["ready", "leased", "delayed"])
async def test_cost_of_a_claim_does_not_grow_with_the_backlog(make, clocks, backlog):
    async with make(clocks=clocks, synchronous="off") as backend:
        queue = backend.queue

        async def steps():
            """Return the number of steps that SQLite needs for a claim of 10 messages."""
            await queue.put("t", [b"x"] * 10)
            count = 0

            def step():
                nonlocal count
                count += 1

            await backend._connection.run(lambda c: c.set_progress_handler(step, 1))
            taken = await queue.receive("t", limit=10, wait=0)
            await backend._connection.run(lambda c: c.set_progress_handler(None, 1))
            await queue.ack(taken)
            assert len(taken) == 10
            return count

        few = await steps()
        await queue.put("t", [b"x"] * 100_000, delay=60 if backlog == "delayed" else 0)
        if backlog == "leased":
            await queue.receive("t", limit=100_000, wait=0)
        assert await steps() <= 1.5 * few
