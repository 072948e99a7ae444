"""The demo over a real socket: every route, and the errors for wrong requests."""

import pytest

from .conftest import Demo

NO_INDEX = "which is not a whole number from 0 to 1000"


async def test_greeting_is_scheduled_printed_and_read(demo: Demo) -> None:
    accepted = await demo.http.post("/hello?greetee=John")

    assert accepted.status_code == 202
    said = accepted.json()
    assert (said["task"], said["arguments"], said["status"]) == ("hello", {"greetee": "John"}, "put")
    assert said["result_url"] == str(accepted.url)
    assert await demo.line("Hello") == "Hello, John!"
    assert await demo.result("/hello?greetee=John") == "Hello, John!"


@pytest.mark.parametrize(
    ("url", "printed"),
    [("/calc_and_print?op=fib&n=11", "fib(11) = 89"), ("/calc_and_print?op=lucas&n=11", "lucas(11) = 199"),
     ("/fib_and_print?n=11", "fib(11) = 89")],
)  # fmt: skip
async def test_number_is_computed_and_printed(demo: Demo, url: str, printed: str) -> None:
    assert (await demo.http.post(url)).status_code == 202

    assert await demo.line(r" = ") == printed
    assert await demo.result(url) == int(printed.rpartition(" ")[2])


async def test_result_of_child_can_be_read(demo: Demo) -> None:
    await demo.http.post("/calc_and_print?op=fib&n=11")
    await demo.result("/calc_and_print?op=fib&n=11")

    assert await demo.result("/calc?op=fib&n=11") == 89
    assert await demo.result("/fib?n=10") == 55


async def test_unscheduled_call_is_404_with_remedy(demo: Demo) -> None:
    answer = await demo.http.get("/hello?greetee=Jane")

    assert answer.status_code == 404
    assert answer.json() == {
        "code": "BRRR-CALL-01",
        "what": "hello with {'greetee': 'Jane'} has no result (yet)",
        "remedy": "POST to the same URL to schedule it, then ask again.",
    }


REFUSED = {
    "/nope?n=1": (404, "BRRR-APP-02", "the task 'nope' does not exist"),
    "/fib": (400, "BRRR-APP-04", "the task 'fib' was not given n"),
    "/fib?n=1&n=2": (400, "BRRR-APP-04", "the task 'fib' was given n twice"),
    "/fib?n=1&m=2": (400, "BRRR-APP-04", "the task 'fib' has no parameter 'm'"),
    "/fib?n=abc": (400, "BRRR-APP-04", f"the task 'fib' was given n='abc', {NO_INDEX}"),
    "/fib?n=": (400, "BRRR-APP-04", f"the task 'fib' was given n='', {NO_INDEX}"),
    "/fib?n=1.5": (400, "BRRR-APP-04", f"the task 'fib' was given n='1.5', {NO_INDEX}"),
    "/fib?n=-1": (400, "BRRR-APP-04", f"the task 'fib' was given n='-1', {NO_INDEX}"),
    "/fib?n=1001": (400, "BRRR-APP-04", f"the task 'fib' was given n='1001', {NO_INDEX}"),
    f"/fib?n={'9' * 5000}": (400, "BRRR-APP-04", f"the task 'fib' was given n='{'9' * 40}…', {NO_INDEX}"),
    "/calc?op=sum&n=1": (400, "BRRR-APP-04", "the task 'calc' was given op='sum', which is not fib or lucas"),
    "/a/b": (404, "HTTP-404", "{method} /a/b: Not Found"),
}


async def test_invalid_call_is_refused(demo: Demo) -> None:
    for method in ("GET", "POST"):
        for url, (status, code, what) in REFUSED.items():
            answer = await demo.http.request(method, url)
            said = answer.json()

            assert (answer.status_code, said["code"], said["what"]) == (status, code, what.replace("{method}", method))
            assert said["remedy"]


async def test_other_method_is_refused(demo: Demo) -> None:
    answer = await demo.http.delete("/fib?n=1")

    assert (answer.status_code, answer.json()["code"]) == (405, "HTTP-405")


async def test_index_lists_tasks_with_arguments(demo: Demo) -> None:
    tasks = (await demo.http.get("/")).json()["tasks"]

    assert set(tasks) == {
        "hello",
        "fib",
        "lucas",
        "calc",
        "fib_and_print",
        "calc_and_print",
        "order",
        "reserve",
        "charge",
    }
    assert tasks["calc"] == "op (fib or lucas) and n (a whole number from 0 to 1000)"


async def test_greeting_takes_any_text(demo: Demo) -> None:
    name = "Ærøskøbing & 你好\n<b>"
    await demo.http.post("/hello", params={"greetee": name})

    url = str(demo.http.build_request("GET", "/hello", params={"greetee": name}).url)
    assert await demo.result(url) == f"Hello, {name}!"
