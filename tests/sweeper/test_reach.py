"""Whether somebody answers where MLflow is to be, asked without MLflow."""

from __future__ import annotations

import pytest
from tracking import answering

from sweeper.track import reach


@pytest.mark.parametrize("status", [200, 401, 404])
def test_whoever_answers_is_left_to_the_client_of_mlflow(status):
    """Some serve MLflow's API without its page of health, or know logins that we do not."""
    with answering(status, health_status=status) as address:
        reach.refuse_away(address)


@pytest.mark.parametrize("status", [429, 503])
def test_a_gateway_without_a_server_behind_it_is_nobody(status):
    with (
        answering(status, health_status=status) as address,
        pytest.raises(reach.Away, match=f"answers {status}"),
    ):
        reach.refuse_away(address)


def test_where_nobody_listens_is_nobody(monkeypatch):
    with pytest.raises(reach.Away, match="does not answer"):
        reach.refuse_away("http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")  # MLflow's client may go there.
    reach.refuse_away("http://127.0.0.1:9")


@pytest.mark.parametrize("uri", ["sqlite:////nowhere/mlflow.db", "postgresql://nowhere/runs"])
def test_a_database_is_not_asked(uri):
    reach.refuse_away(uri)
