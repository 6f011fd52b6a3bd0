"""The command line, as a person uses it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from astrai import cli, lab
from astrai.cli import app
from astrai.config import ModelConfig, SamplingParams
from astrai.course import doctor
from astrai.model.checkpoint import save
from astrai.model.transformer import Transformer
from astrai.terminal import recorded_run
from astrai.terminal.chat import Conversation
from astrai.training.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
STORY = "Tell me a story about a fox."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a very small random model, so that these tests do not hang on what the bundled one says."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([STORY, "One day a fox found a kite."] * 4, vocab_size=300)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_layers=2,
        num_heads=6,
        num_kv_heads=1,
        head_dim=4,
        intermediate_size=32,
        max_seq_len=512,
        bos_id=tokenizer.bos_id,
        eos_ids=tokenizer.eos_ids,
    )
    save(Transformer.random(config, seed=1), folder)
    tokenizer.save(folder)
    return str(folder)


def run(*arguments: str, text: str | None = None, code: int = 0) -> SimpleNamespace:
    result = CliRunner().invoke(app, arguments, input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return SimpleNamespace(out=result.stdout, err=result.stderr)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=110)


# --- the command itself -----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['astrai', '--help']\n"
        "from astrai.__main__ import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'numpy', 'jupyterlab', 'manim'} & set(sys.modules), file=sys.stderr)"
    )
    result = python("-c", code)
    for command in ("doctor", "chat", "serve", "render", "lab", "train", "evaluate", "bench", "trace"):
        assert f" {command} " in result.stdout
    assert result.stderr.strip() == ""


def test_without_typer_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None\nfrom astrai.__main__ import main\nmain()"
    result = python("-c", code)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("pip install 'astrai[lab]'")
    assert "Traceback" not in result.stderr


def test_version() -> None:
    assert run("--version").out.startswith("astrai 0.")


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_says_what_this_machine_has() -> None:
    out = run("doctor").out
    for name in ("python", "torch", "device", "memory", "threads", "bundled model", "jupyterlab", "manim", "browser"):
        assert re.search(rf"^(ok|--)  {name}\b", out, re.MULTILINE)


def test_doctor_says_what_to_do_about_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "version", missing)
    out = run("doctor").out
    assert "pip install 'astrai[lab]'" in out and "pip install 'astrai[video]'" in out
    assert "libcairo2-dev" in out and "apt-get install chromium" in out


def test_a_check_that_fails_is_itself_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> doctor.Finding:
        raise RuntimeError("no such sensor")

    monkeypatch.setattr(doctor, "CHECKS", (("memory", broken),))
    assert "could not be examined: no such sensor" in run("doctor").out


# --- chat -------------------------------------------------------------------------------------------------------------


def test_chat_with_a_prompt_prints_the_answer_and_what_it_took(model: str) -> None:
    result = run("chat", "--model", model, "--prompt", STORY, "--max-tokens", "8", "--temperature", "1", "--seed", "4")
    assert re.search(
        r"\[8 tokens, [\d.]+ tokens/s, first after \d+ ms, 0 of \d+ prompt tokens cached; length]", result.err
    )
    again = run("chat", "--model", model, "--prompt", STORY, "--max-tokens", "8", "--temperature", "1", "--seed", "4")
    assert again.out == result.out


def test_a_conversation_keeps_its_turns_until_it_is_cleared(model: str) -> None:
    turns = f"{STORY}\n\nAnd then?\n/clear\n{STORY}\n/quit\nnever read\n"
    result = run("chat", "--model", model, "--max-tokens", "4", text=turns)
    figures = re.findall(r"(\d+) of (\d+) prompt tokens cached", result.err)
    (_, first), (cached, second), (_, third) = [(int(a), int(b)) for a, b in figures]
    assert second > first and cached >= first, "the second turn sends the first along and finds it in the cache"
    assert third == first


def test_a_prompt_that_does_not_fit_is_one_line_of_advice(model: str) -> None:
    result = run("chat", "--model", model, "--prompt", "x" * 2000, code=1)
    assert "shorten it" in result.err and "Traceback" not in result.err


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    result = run("chat", "--model", str(tmp_path / "no" / "such"), "--prompt", "x", code=1)
    assert "Traceback" not in result.err and len(result.err.strip().splitlines()) <= 3


def test_ctrl_c_keeps_what_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    class Stream:
        cancelled = False

        def __iter__(self):
            yield "Once upon"
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self.cancelled = True

        def result(self) -> SimpleNamespace:
            kinds = dict(completion_tokens=3, token_times=(0.1,), ttft=0.1, cached_tokens=0, prompt_tokens=9, error="")
            return SimpleNamespace(finish_reason="cancelled", **kinds)

    stream = Stream()
    conversation = Conversation(SimpleNamespace(submit=lambda request: stream), SamplingParams())
    assert conversation.say("Hello")
    assert stream.cancelled
    assert conversation.messages[-1] == {"role": "assistant", "content": "Once upon"}


def test_ctrl_c_stops_the_answer_and_not_the_program(model: str) -> None:
    options = f"chat --model {model} --max-tokens 450 --temperature 1 --seed 1".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "astrai", *options],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    process.stdin.write(f"{STORY}\n".encode())
    process.stdin.flush()
    assert process.stdout.read(1), "the answer has begun"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(b"/quit\n", timeout=60)
    assert process.returncode == 0, errors.decode()
    assert "; cancelled]" in errors.decode()


def test_the_bundled_model_streams_its_first_text_within_five_seconds() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # NOTE: processor time, so that a busy machine fails nobody; on an idle one the wall's is the same.
    process = subprocess.Popen(
        [sys.executable, "-m", "astrai", "chat", "--prompt", STORY],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout and process.stdout.read(1)
    process.kill()
    process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def test_a_chat_imports_nothing_that_it_does_not_need(model: str) -> None:
    slow = {"torch._dynamo", "transformers", "matplotlib", "rich.console", "fastapi", "huggingface_hub"}
    code = (
        f"import sys; sys.argv = ['astrai', 'chat', '--model', {model!r}, '--prompt', 'x', '--max-tokens', '2']\n"
        "from astrai.__main__ import main\n"
        f"try: main()\nfinally: print('imported:', *{slow!r} & set(sys.modules), file=sys.stderr)"
    )
    assert python("-c", code).stderr.strip().endswith("imported:")


# --- trace ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "run.jsonl"
    out = run("trace", "record", str(path), "--model", model).out
    assert "its replay equals the engine's own final state" in out.replace("\n", " ")
    return path


def test_a_recorded_run_is_shown_step_by_step_with_its_final_state(recorded: Path) -> None:
    out = run("trace", "show", str(recorded)).out
    assert out.index("step 1") < out.index("step 2") < out.index("The state after")
    for words in ("joined the queue", "found in the cache", "ended with", "radix tree", "4 arrived"):
        assert words in out


def test_one_step_and_the_state_after_it(recorded: Path) -> None:
    out = run("trace", "show", str(recorded), "--step", "1").out
    assert "step 1" in out and "step 2" not in out
    assert "may not be evicted" in out, "one step is shown with its fine print"


def test_the_final_state_alone(recorded: Path) -> None:
    out = run("trace", "show", str(recorded), "--final").out
    assert "joined the queue" not in out and "radix tree" in out


def test_reading_a_recording_needs_no_torch(recorded: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['numpy'] = None\n"
        f"sys.argv = ['astrai', 'trace', 'show', {str(recorded)!r}, '--final']\n"
        "from astrai.__main__ import main\nmain()"
    )
    result = python("-c", code)
    assert result.returncode == 0 and "radix tree" in result.stdout, result.stderr


def test_a_step_that_is_not_there_names_those_that_are(recorded: Path) -> None:
    assert "its steps are 1 to " in run("trace", "show", str(recorded), "--step", "99999", code=1).err


def test_a_damaged_recording_is_one_line(recorded: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "run.jsonl"
    damaged.write_bytes(recorded.read_bytes()[:-9])
    err = run("trace", "show", str(damaged), code=1).err
    assert "cut off" in err and len(err.strip().splitlines()) == 1


def test_recording_says_when_the_replay_differs(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_run, "replay", lambda log: None)
    out = run("trace", "record", str(tmp_path / "run.jsonl"), "--model", model, code=1).out
    assert "DIFFERS" in out


# --- lab, and what is handed on ---------------------------------------------------------------------------------------


def test_lab_brings_the_working_copy_and_hands_options_to_jupyterlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(lab, "open_jupyterlab", lambda folder, options: calls.append((folder, options)) or 0)
    folder = tmp_path / "course"
    out = run("lab", "--dir", str(folder), "--no-browser", "--port", "9001", "--ServerApp.quit_button=False").out
    assert "new" in out and (folder / "00_start_here.ipynb").is_file()
    assert calls == [(folder, ["--port", "9001", "--no-browser", "--ServerApp.quit_button=False"])]


def test_lab_without_jupyterlab_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    assert "pip install 'astrai[lab]'" in run("lab", "--dir", str(tmp_path / "course"), code=1).err


@pytest.mark.parametrize(
    ("command", "module"),
    [("train", "astrai.training.train"), ("evaluate", "astrai.training.evaluate"), ("bench", "benchmarks.__main__")],
)
def test_commands_that_hand_on_run_a_module_with_their_arguments(
    command: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(cli.runpy, "run_module", lambda name, **_: calls.append((name, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", [])
    run(command, "--help", "--steps", "3")
    assert calls == [(module.removesuffix(".__main__"), ["--help", "--steps", "3"])]
    assert find_spec(module) is not None


def test_a_command_that_hands_on_shows_the_modules_own_help() -> None:
    result = python("-m", "astrai", "train", "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: astrai train")


def test_a_command_whose_module_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, **_: object) -> None:
        raise ModuleNotFoundError("No module named 'benchmarks'", name="benchmarks")

    monkeypatch.setattr(cli.runpy, "run_module", missing)
    monkeypatch.setattr(sys, "argv", [])
    assert "checkout of the repository" in run("bench", code=1).err
