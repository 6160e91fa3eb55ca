"""``chutes-connect models``: what is listed, picked, and renewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from chutes_cli.commands.models import chosen
from chutes_cli.demands import read_demands
from chutes_cli.model_table import models_table
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_local import LocalChutes
from tests.cli.conftest import EMBEDDER, MODEL, NOWHERE, OTHER, Run

CHEAPEST = "deepseek-ai/DeepSeek-V4-Flash-0731-TEE"


def test_models_as_json_have_all_that_is_known(run: Run) -> None:
    """--json prints the catalogue's own form, and how old the list is."""
    found = run("models", "--json", "--offline", "--min-context", "1m").json
    assert {row["id"] for row in found["models"]} >= {CHEAPEST, "zai-org/GLM-5.2-TEE"}
    assert all(row["context_length"] >= 1_000_000 for row in found["models"])
    assert found["catalog"] == {
        "source": "bundled",
        "fetched_at": "2026-08-22T00:00:00+00:00",
        "snapshot_date": "2026-08-22",
    }


def test_what_nobody_says_is_a_question_mark(run: Run, service: LocalChutes) -> None:
    """Today's list is fetched; what a row, or a page that does not answer, fails to say is a question mark."""
    ran = run("models", "outside", "--management-url", NOWHERE)
    assert ran.status == 0
    assert ran.lines[1].split() == ["chutes-local/outside-sample", *"??????", "no", *"??"]
    assert "hot or cold and speed unknown: " in ran.err


def test_the_live_table_has_heat_and_speed(run: Run, service: LocalChutes) -> None:
    """The service's pages say which models are hot and how fast they were."""
    service.change(OTHER, machines=0)
    assert run("models", "--cold", "--json").json["models"][0]["id"] == OTHER
    rows = {line.split()[0]: line.split() for line in run("models").lines[1:]}
    assert rows[MODEL] == [
        *[MODEL, "yes", "0.104", "0.416", "0.0104", "41k", "tools", "json", "struct", "think", "yes", "0.60", "55"]
    ]
    assert rows[OTHER][1] == "no"


@pytest.mark.parametrize(
    ("words", "there", "not_there"),
    [
        (["--vision"], OTHER, MODEL),
        (["--tools", "--max-price", "0.3"], CHEAPEST, MODEL),
        (["qwen"], MODEL, OTHER),
        (["--kind", "embedding"], EMBEDDER, MODEL),
        (["--kind", "all"], EMBEDDER, "nothing"),
        (["--owner", "Google"], OTHER, MODEL),
        (["--kind", "all", "--tag", "mistral"], "unsloth/Mistral-Nemo-Instruct-2407-TEE", MODEL),
        (["--tee", "--reasoning", "--structured"], MODEL, "unsloth/Mistral-Nemo-Instruct-2407-TEE"),
        (["--sort", "price", "--limit", "1"], "unsloth/Mistral-Nemo-Instruct-2407-TEE", MODEL),
    ],
)
def test_filters(run: Run, words: list[str], there: str, not_there: str) -> None:
    """A filter keeps what surely fits, and leaves out the rest."""
    out = run("models", "--offline", *words).out
    assert there in out
    assert not_there not in out


def test_no_model_that_fits_says_how_many_meet_each_demand(run: Run) -> None:
    """When nothing fits, the status is 1 and each demand has a count."""
    ran = run("models", "--offline", "--vision", "--pick", "<=0.01$, ctx>=100k")
    assert (ran.status, ran.out) == (1, "")
    assert "--vision (6 of 14), <=0.01$ (0 of 14), ctx>=100k (13 of 14)" in ran.err


def test_pick_prints_one_id(run: Run) -> None:
    """--pick prints the cheapest that fits, and nothing else."""
    ran = run("models", "--pick", "tools,<=0.3$,ctx>=100k,tee", "--offline")
    assert (ran.out, ran.err) == (f"{CHEAPEST}\n", "")


def test_pick_follows_the_order_and_combines_with_filters(run: Run) -> None:
    """--sort changes what the best is, and filters hold too."""
    assert run("models", "--pick", "tools", "--sort", "context", "--offline").out == f"{CHEAPEST}\n"
    assert run("models", "--pick", "tools", "--vision", "--offline").out == f"{OTHER}\n"
    assert run("models", "--pick", "tools", "--limit", "2", "--offline").lines == [CHEAPEST, OTHER]


def test_a_fallback_is_a_line_of_python_or_a_list(run: Run) -> None:
    """--fallback prints what can be pasted: code, or the words for chat."""
    line = run("models", "--pick", "tools, <=1$", "--fallback", "--offline").out
    assert line == f'ChutesFallback(["{CHEAPEST}", "{OTHER}", "{MODEL}"])\n'
    listed = run("models", "--pick", "tools", "--fallback", "list", "--limit", "2", "--offline").out
    assert listed == f"{CHEAPEST},{OTHER}\n"
    assert run("models", "--tools", "--fallback", "list", "--offline").out.count(",") == 2


def test_a_fallback_is_of_chat_models(run: Run) -> None:
    """Another kind with --fallback is a mistake, since nothing could take over."""
    ran = run("models", "--kind", "all", "--fallback", "--offline")
    assert (ran.status, ran.out) == (2, "")
    assert "A fallback is of chat models" in ran.err


def test_the_chutes_of_a_kind_are_listed(run: Run, service: LocalChutes) -> None:
    """Today's public chutes are asked for; --json has what is known of each."""
    (row,) = run("models", "--kind", "image", "--json").json["models"]
    assert (row["id"], row["kind"], row["paths"], row["hot"]) == ("chutes-local/painter", "image", ["/generate"], True)
    assert "speech: /speak" in run("models", "--kind", "speech").out


def test_a_model_of_another_kind_shows_its_kind_and_paths() -> None:
    """In words where there is room, and as its kind where there is little."""
    info = ModelInfo(id="acme/painter", kind="image", paths=frozenset({"/generate"}))
    for width, shown in ((None, "image: /generate"), (70, "image")):
        table, _ = models_table([info], width)
        place = [column.title for column in table.columns].index("can")
        assert str(table.rows[0][place].text) == shown


def test_a_pick_as_json_has_every_form(run: Run) -> None:
    """--json gives the ids, the code and the list."""
    found = run("models", "--pick", "tools", "--limit", "2", "--offline", "--json").json
    assert found == {
        "models": [CHEAPEST, OTHER],
        "python": f'ChutesFallback(["{CHEAPEST}", "{OTHER}"])',
        "list": f"{CHEAPEST},{OTHER}",
    }


def test_a_pick_that_cannot_be_read_is_a_mistake(run: Run) -> None:
    """A demand that does not exist is status 2, with what there is."""
    ran = run("models", "--pick", "fast", "--offline")
    assert ran.status == 2
    assert "'fast' is not a valid demand. Use tools" in ran.err


def test_what_is_cold_comes_last_in_a_pick(run: Run, service: LocalChutes) -> None:
    """The cheapest is not picked while no machine runs it."""
    assert run("models", "--pick", "tools").out == f"{CHEAPEST}\n"
    service.change(CHEAPEST, machines=0)
    assert run("models", "--pick", "tools").out == f"{OTHER}\n"


def test_order_by_every_key() -> None:
    """Each order puts its best first, and the service's order is left as it is."""
    slow = ModelInfo(id="b/slow", price_out=1.0, context_length=9000, ttft=3.0, tps=9.0)
    fast = ModelInfo(id="a/fast", price_out=2.0, context_length=4000, ttft=0.2, tps=90.0)
    for order in ("service", "price", "context"):
        assert chosen([slow, fast], [], order)[0] is slow
    for order in ("ttft", "tps", "name"):
        assert chosen([slow, fast], [], order)[0] is fast


def test_choosing_demands_nothing_of_nobody() -> None:
    """Without demands every model is there."""
    catalog = Catalog.bundled()
    assert chosen(list(catalog), [], "service") == list(catalog)
    assert chosen(list(catalog), read_demands("tools, !tools"), "service") == []


def test_refresh_tells_what_changed(run: Run, service: LocalChutes) -> None:
    """refresh lists what is new and gone, and does not keep another gateway's list."""
    ran = run("models", "refresh")
    assert "new     chutes-local/outside-sample" in ran.lines
    assert "gone    moonshotai/Kimi-K3-TEE" in ran.lines
    assert ran.lines[-1].endswith("not cached: this is not the default gateway")
    found = run("models", "refresh", "--json").json
    assert found["kept"] is None
    assert "new     chutes-local/outside-sample" in found["changes"]


def test_refresh_keeps_the_service_s_own_list(
    run: Run, service: LocalChutes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the service itself is kept for later, offline use."""
    monkeypatch.setattr("chutes_core.settings.BASE_URL", service.base_url)
    monkeypatch.setattr(
        "chutes_core.settings.Settings.__init__.__defaults__",
        (service.base_url, None, service.management_url, frozenset()),
    )
    ran = run("models", "refresh")
    assert ran.lines[-1].endswith(f"cached in {tmp_path / 'cache' / 'models.json'}")
    assert "chutes-local/outside-sample" in run("models", "--offline").out


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_the_table_fits_its_line(run: Run, width: int) -> None:
    """No line is longer than the terminal, and letters for features are explained."""
    ran = run("models", "--offline", width=width)
    assert max(map(len, ran.lines)) <= width
    assert ("T tools" in ran.err) is ("TJSR" in ran.out)


def test_a_pipe_gets_the_whole_table(run: Run) -> None:
    """Without a terminal no column is left out."""
    title = " ".join(run("models", "--offline").lines[0].split())
    assert title == "model hot $ in $ out cached window can TEE TTFT s tok/s"
