"""The command line: help with an example for every command, exit statuses, one-line errors."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from engine.cli import COMMANDS, main, tidegate
from tests.support.pace import scaled
from topics.errors import OperatorError


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | environ, timeout=scaled(60)
    )


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(tidegate, "get_command", lambda _context, _name: failing)
    return main(["check"])


def test_help_lists_every_command_and_imports_none() -> None:
    code = "import sys; from engine.cli import main; main(['--help']); sys.exit(any(n in sys.modules for n in sys.argv[1:]))"
    heavy = ["numpy", "numba", "faust", "aiokafka", "rich", "asyncio"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=False, timeout=scaled(60)
    )
    assert ran.returncode == 0, ran.stderr
    for name, command in COMMANDS.items():
        assert f"  {name} " in ran.stdout
        assert command.summary.split()[0] in ran.stdout


def test_help_takes_less_than_a_third_of_a_cpu_second() -> None:
    def cpu_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_s() for _ in range(5)) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    help_text = capsys.readouterr().out
    assert "Example" in help_text
    assert f"tidegate {name}" in help_text.split("Example")[1]


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tidegate 0.")


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["check", "--nonsense"], ["check", "too", "many"]])
def test_misuse_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_operator_error_is_one_line_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(OperatorError("the port is closed: wait"), monkeypatch) == 2
    assert capsys.readouterr().err == "tidegate: the port is closed: wait\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOENT])
def test_unusable_file_is_one_line_with_its_path(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(OSError(number, "x", "some/file"), monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("tidegate: some/file: ")
    assert error.count("\n") == 1


def test_bug_is_raised_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError(), monkeypatch)


def test_interrupt_exits_130_silently(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err.strip() == ""


def test_closed_output_ends_silently() -> None:
    code = "import sys; from engine.cli import main; sys.exit(main(['--help']))"
    ran = subprocess.run(
        f'"{sys.executable}" -c "{code}" | true; echo "${{PIPESTATUS[0]}}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
    )
    assert ran.stderr == ""
    assert int(ran.stdout) in (0, 1)


def test_check_without_findings_exits_0(tmp_path: Path) -> None:
    ran = run("check", TIDEGATE_CACHE_DIR=str(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ok    Python 3." in ran.stdout
    assert "ok    configuration valid" in ran.stdout
    assert ran.stdout.splitlines()[-1].endswith("0 failed")


def test_check_of_invalid_configuration_exits_1(tmp_path: Path) -> None:
    ran = run("check", TIDEGATE_CACHE_DIR=str(tmp_path), TIDEGATE_TOPICS_PARTITIONS="none")
    assert ran.returncode == 1
    assert "fail  configuration: $TIDEGATE_TOPICS_PARTITIONS = 'none'" in ran.stdout


def test_check_of_unreachable_broker_exits_1(tmp_path: Path) -> None:
    ran = run("check", "--bootstrap", "127.0.0.1:1", TIDEGATE_CACHE_DIR=str(tmp_path))
    assert ran.returncode == 1
    assert "fail  Kafka at 127.0.0.1:1 can't be used" in ran.stdout


def test_check_of_unwritable_cache_folder_exits_1(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    ran = run("check", TIDEGATE_CACHE_DIR=str(blocked / "below"))
    assert ran.returncode == 1
    assert "can't be written to" in ran.stdout
