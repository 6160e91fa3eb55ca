"""What is on offer: rows, listings, statistics, warm-up."""

from __future__ import annotations

import json
from typing import Any

import httpx

from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL, Ask

FULL = {
    "id", "root", "object", "parent", "created", "owned_by", "chute_id", "confidential_compute", "max_model_len",
    "context_length", "max_output_length", "input_modalities", "output_modalities", "quantization",
    "supported_features", "supported_sampling_parameters", "pricing", "price",
}  # fmt: skip


def rows(http: httpx.Client, query: str = "") -> dict[str, dict[str, Any]]:
    data = http.get(f"/v1/models{query}").json()["data"]
    return {row["id"]: row for row in data}


def test_rows_use_the_services_field_names(http: httpx.Client) -> None:
    """A full row has every field; vLLM adds permission; prices are per million tokens."""
    found = rows(http)
    assert set(found[MODEL]) == FULL
    assert set(found["moonshotai/Kimi-K2.6-TEE"]) == FULL | {"permission"}
    assert found[MODEL]["pricing"]["prompt"] == found[MODEL]["price"]["input"]["usd"] == 0.104


def test_some_rows_lack_fields(http: httpx.Client) -> None:
    """A sparse row lacks window and features, an outside one has hardly more than its name."""
    found = rows(http)
    missing = FULL - set(found["unsloth/Mistral-Nemo-Instruct-2407-TEE"])
    assert "context_length" in missing
    assert "supported_features" in missing
    outside = found["chutes-local/outside-sample"]
    assert FULL - set(outside) >= {"pricing", "max_model_len"}
    assert outside["confidential_compute"] is False


def test_the_list_is_public_and_without_embeddings(server: LocalChutes) -> None:
    """No key is needed, and the embedding model is not in it; ?or=true is a shorter list."""
    with httpx.Client(base_url=server.url) as keyless:
        every, some = rows(keyless), rows(keyless, "?or=true")
    assert EMBEDDER not in every
    assert set(some) < set(every)


def test_a_models_own_host_lists_itself(http: httpx.Client, server: LocalChutes) -> None:
    """The own host knows one model; that of a chute which is none has no list."""
    for model in (MODEL, EMBEDDER):
        assert [row["id"] for row in http.get(f"{server.chute_url(model)}/models").json()["data"]] == [model]
    assert http.get(f"{server.chute_url('chutes-local/painter')}/models").status_code == 404


def test_chutes_are_listed_and_filtered(http: httpx.Client) -> None:
    """The management list pages, filters by template, name and slug, and finds the embedding chute."""
    page = http.get("/api/chutes/", params={"include_public": "true", "limit": 2}).json()
    assert (page["page"], page["limit"], len(page["items"])) == (0, 2, 2)
    assert page["total"] > 2
    (embedder,) = http.get("/api/chutes/", params={"template": "embedding"}).json()["items"]
    assert embedder["name"] == EMBEDDER
    assert embedder["slug"] == "chutes-qwen-qwen3-embedding-8b-tee"
    named = http.get("/api/chutes/", params={"name": "gemma"}).json()["items"]
    assert [item["name"] for item in named] == ["google/gemma-4-31B-turbo-TEE"]


def test_wrong_pages_are_refused(http: httpx.Client) -> None:
    """page with offset is 400, a number out of bounds 422 with a list."""
    assert http.get("/api/chutes/", params={"page": 0, "offset": 0}).status_code == 400
    response = http.get("/api/chutes/", params={"limit": "many"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "limit"]


def test_one_chute_by_name_id_or_not_at_all(http: httpx.Client, server: LocalChutes) -> None:
    """A chute is found by name and id; hot tells whether it runs."""
    chute = server.change(MODEL, machines=0)
    by_name, by_id = (http.get(f"/api/chutes/{key}").json() for key in (MODEL, chute.chute_id))
    assert by_name == by_id
    assert by_name["hot"] is False
    assert by_name["instances"] == []
    assert http.get("/api/chutes/nobody").status_code == 404


def test_statistics_follow_what_happened(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """Requests and tokens show up in the statistics; a busy model in the utilization."""
    reply = ask().json()
    chute = server.change(MODEL, busy=True)
    (stats,) = http.get("/api/invocations/stats/llm", params={"chute_id": chute.chute_id}).json()
    assert (stats["name"], stats["total_requests"]) == (MODEL, 1)
    assert stats["total_output_tokens"] == reply["usage"]["completion_tokens"]
    unmeasured = [s for s in http.get("/api/invocations/stats/llm").json() if s["name"] == "zai-org/GLM-5.2-TEE"]
    assert unmeasured[0]["average_ttft"] == 0
    load = {row["name"]: row for row in http.get("/api/chutes/utilization").json()}
    assert load[MODEL]["utilization_current"] == 1.0
    assert load[MODEL]["active_instance_count"] == 2


def test_warming_up_wakes_a_cold_model(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """Warm-up reports cold and then hot as events, and afterwards the model answers."""
    server.change(MODEL, machines=0)
    assert ask().status_code == 503
    response = http.get(f"/api/chutes/warmup/{MODEL}")
    reports = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert reports[0] == {"status": "cold", "log": "waiting for instances ..."}
    assert reports[-1] == {"status": "hot", "log": "chute is hot, 1 instances available"}
    assert ask().status_code == 200


def test_warming_up_is_refused(http: httpx.Client, server: LocalChutes) -> None:
    """Without balance 402, disabled 503, unknown 404, without a key 401."""
    path = f"/api/chutes/warmup/{MODEL}"
    assert http.get(path, headers={"Authorization": "Bearer cpk_poor"}).status_code == 402
    assert http.get("/api/chutes/warmup/nobody").status_code == 404
    assert httpx.get(server.url + path).status_code == 401
    server.change(MODEL, disabled=True)
    assert http.get(path).status_code == 503


def test_small_public_things(http: httpx.Client) -> None:
    """Prices of machines, a chute's source, its miners, and ping."""
    assert http.get("/api/pricing").json()["tao_usd"] > 0
    assert MODEL in http.get(f"/api/chutes/code/{MODEL}").text
    assert len(http.get(f"/api/chutes/miner_means/{MODEL}.json").json()) == 2
    assert http.get("/api/ping").json() == {"message": "pong"}
