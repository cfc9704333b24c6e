"""heichat-admin: what it prints and its exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from heichat_appliance import __version__
from heichat_appliance.admin.main import main
from tests.appliance import SERVER_NAME, Appliance, q


def config_of(tmp_path: Path) -> str:
    """A configuration file for the data folder of a test's appliance."""
    path = tmp_path / "heichat.ini"
    path.write_text(
        f"[server]\nname = {SERVER_NAME}\npublic_url = https://{SERVER_NAME}\ndata_dir = {tmp_path / 'data'}\n"
        "[plugins]\nenabled = demo_directory\n[demo_directory]\ndemo = yes\n"
    )
    return str(path)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"heiCHAT {__version__}\n"


def test_check_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = config_of(tmp_path)
    assert main(["--config", good, "check-config"]) == 0
    Path(good).write_text("[server]\nnmae = x\n[plugins]\nenabled = nothing\n")
    assert main(["--config", good, "check-config"]) == 1
    told = capsys.readouterr().err
    assert "did you mean name?" in told and "public_url is missing" in told


def test_without_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", config_of(tmp_path), "verify"]) == 1
    assert "there is no database" in capsys.readouterr().err


@pytest_twisted.ensureDeferred
async def test_verify_and_reports_beside_the_running_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    room_id = await alice.create_room()
    event_id = await alice.send(room_id, "x")
    await alice.post(f"/rooms/{q(room_id)}/report/{q(event_id)}", {"reason": "rude\n2030-01-01 all is well"})
    config = config_of(tmp_path)
    assert main(["--config", config, "verify"]) == 0
    assert "Everything is whole." in capsys.readouterr().out
    assert main(["--config", config, "reports"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and alice.user_id in lines[0] and event_id in lines[0] and '"rude\\n2030' in lines[0]
    await server.stop()


@pytest_twisted.ensureDeferred
async def test_verify_names_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = await Appliance.start(tmp_path)
    alice = await server.login("alice")
    event_id = await alice.send(await alice.create_room(), "x")
    await server.stop()
    from heichat_appliance.db.engine import connect

    database = connect(tmp_path / "data" / "heichat.db")
    database.execute("UPDATE events SET pdu = replace(pdu, '\"x\"', '\"y\"') WHERE event_id = ?", (event_id,))
    database.close()
    assert main(["--config", config_of(tmp_path), "verify"]) == 1
    assert event_id in capsys.readouterr().out
