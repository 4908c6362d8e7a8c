from __future__ import annotations

import json
from typing import Any

from tests.server.metadata.rest_calls import STOP, get, post, put, xml

SESSION = (
    b"<Instance><Job><Tasks><SQLRT><Name>AnonymousSQLRTTask</Name></SQLRT></Tasks></Job></Instance>"
)
TASK = {"taskname": "AnonymousSQLRTTask", "info": ""}


def open_session(client: Any) -> str:
    reply = post(client, "/instances", SESSION)
    assert reply.status == 201, reply.body
    return f"/instances/{reply.headers['location'].rsplit('/', 1)[1]}"


def tell(client: Any, session: str, query: Any) -> Any:
    value = json.dumps(query).replace("<", "&lt;")
    body = f"<Instance><Key>query</Key><Value>{value}</Value></Instance>"
    return put(client, session, body.encode(), **TASK)


def run(client: Any, session: str, text: str) -> dict[str, Any]:
    reply = tell(client, session, {"query": text, "settings": {}})
    assert reply.status == 200, reply.body
    assert reply.headers["location"]
    number = json.loads(reply.json["result"])["queryId"]
    while True:
        result: dict[str, Any] = get(client, session, key=f"result_{number}", **TASK).json
        assert result["subQueryId"] == number
        if result["status"] != 2:
            return result


def test_a_session_runs_statements(client: Any) -> None:
    session = open_session(client)
    assert xml(get(client, session)).findtext("Status") == "Running"
    status = get(client, session, key="status", **TASK).json
    assert status["status"] == 2
    assert status["result"].startswith("Session name: ")
    done = run(client, session, "select 1 as a;")
    assert (done["status"], done["result"]) == (5, '"a"\n"1"\n')
    source = get(client, session, key=f"sourcexml_{done['subQueryId']}", **TASK).json
    assert "select 1 as a;" in source["result"]
    failed = run(client, session, "select * from absent;")
    assert failed["status"] == 4
    assert "NoSuchTable" in failed["result"]
    # The statements are instances, the session is not listed among them.
    assert len(xml(get(client, "/instances")).findall("Instance")) == 2
    assert put(client, session, STOP).status == 200
    assert get(client, session, key="status", **TASK).json["status"] == 6
    assert tell(client, session, {"query": "select 1"}).status == 409


def test_a_statement_that_is_kept_from_sessions(client: Any) -> None:
    session = open_session(client)
    settings = {"odps.mcqa.disable": "true"}
    refused = tell(client, session, {"query": "select 1 as a;", "settings": settings})
    assert (refused.status, refused.json["Code"]) == (400, "SQAUnsupportedFeature")


def test_what_a_session_does_not_take(client: Any) -> None:
    session = open_session(client)
    for odd in ("x", {}, {"query": 1}, {"query": "select 1", "settings": [1]}):
        assert tell(client, session, odd).status == 400
    for key, status in (("result_x", 400), ("result_99999999999", 400), ("result_7", 404)):
        assert get(client, session, key=key, **TASK).status == status


def test_statements_of_others_are_not_seen(client: Any, granted: Any) -> None:
    other = granted(("demo", "t*", "read"))
    session = open_session(client)
    done = run(client, session, "select 1 as a;")
    key = f"result_{done['subQueryId']}"
    assert get(other, session, key=key, **TASK).status == 404
    assert tell(other, session, {"query": "select 1"}).status == 404


def test_the_second_generation_is_a_path_and_a_quota(client: Any) -> None:
    result = client.request("GET", "/api/connection/mcqa", {"project": "demo", "quota": "q"}).json
    assert (result["quotaNickName"], result["quotaType"]) == ("q", "FUXI_VW")
    asked = {"project": "demo", "version": "wlm"}
    for agent, answer in (("pyodps/0.12.5.1 CPython", 200), ("pyodps/0.13.1 CPython", 404)):
        headers = {"user-agent": agent}
        query = {**asked, "tenant": "t"}
        quota = client.request("GET", "/api/quotas/mine", query, headers=headers)
        assert quota.status == answer
    quota = client.request(
        "GET", "/api/quotas/mine", query, headers={"user-agent": "pyodps/0.12.5.1 CPython"}
    )
    assert quota.headers["x-odps-mcqa-conn"]
    assert xml(quota).findtext("Nickname") == "mine"
    assert client.request("GET", "/api/quotas/mine", asked).json["Code"] == "NoSuchObject"
    assert xml(client.request("GET", "/api/quotas/default", asked)).findtext("ID") == "1"
    quotas = xml(client.request("GET", "/api/quotas"))
    assert [item.findtext("Name") for item in quotas.iterfind("Quota")] == ["default"]
    body = b"<Instance><Job><Tasks><SQL><Query>select 1</Query></SQL></Tasks></Job></Instance>"
    reply = client.request("POST", "/api/mcqa/projects/demo/instances", {}, body)
    assert reply.status == 201
    path = reply.headers["location"].partition(client.netloc)[2]
    assert path.startswith("/api/mcqa/projects/demo/instances/")
    assert path.endswith("_mcqa")
    # The answer comes before the statement's end where that takes long.
    while (
        status := xml(client.request("GET", path, {"instancestatus": ""})).findtext("Status")
    ) == "Running":
        pass
    assert status == "Terminated"
    assert client.request("GET", "/api/mcqa/tenants").status == 404
