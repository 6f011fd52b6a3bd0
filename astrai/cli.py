"""The ``astrai`` command: one function a command, each importing what it needs only when it runs.

It holds no logic of its own: a command reads its options, calls the package and prints.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from astrai import __version__

MORE = {"allow_extra_args": True, "ignore_unknown_options": True}  # options that are handed on
LOCAL = "127.0.0.1"
HAND_ON = MORE | {"help_option_names": []}

app = typer.Typer(
    help="A course on how language models are served, and the engine that it teaches.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
trace_app = typer.Typer(help="Record runs and read them step by step.", no_args_is_help=True)
app.add_typer(trace_app, name="trace")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"astrai {__version__}")
        raise typer.Exit


@app.command()
def doctor() -> None:
    """Say what this machine has, and what to do about what is missing."""
    from astrai.course.doctor import examine

    for finding in examine():
        mark = typer.style("ok", fg="green") if finding.ok else typer.style("--", fg="yellow")
        typer.echo(f"{mark}  {finding.name:<14} {finding.value}")
        if finding.remedy:
            typer.echo(f"    {'':<14} {finding.remedy}")


@app.command()
def chat(
    model: Annotated[str, typer.Option(help="A bundled model, or a folder with a checkpoint.")] = "tiny",
    prompt: Annotated[str | None, typer.Option(help="Answer this and end, instead of a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the most likely token.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes a temperature above 0 repeatable.")] = None,
) -> None:
    """Talk with a model; the answer streams. Ctrl-C stops an answer, Ctrl-D leaves."""
    from astrai.config import SamplingParams
    from astrai.terminal.chat import Conversation, converse

    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    with _said_plainly(), Conversation.open(model, sampling, system) as conversation:
        if prompt is not None:
            raise typer.Exit(0 if conversation.say(prompt) else 1)
        converse(conversation)


@app.command()
def serve(
    model: Annotated[str, typer.Option(help="A bundled model, or a folder with a checkpoint.")] = "tiny",
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every one of this machine.")] = LOCAL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    max_batch_size: Annotated[int, typer.Option(min=1, help="Requests that run at once.")] = 16,
    num_slots: Annotated[
        int | None, typer.Option(min=1, help="Rows of the KV cache; more than run at once remember more prefixes.")
    ] = None,
    max_seq_len: Annotated[int | None, typer.Option(min=2, help="Positions in a row; by default the model's.")] = None,
    max_waiting: Annotated[int, typer.Option(min=1, help="Requests that may wait; one more is answered 429.")] = 4096,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; by default the checkpoint's.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the GPU if there is one.")] = None,
    model_name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="ASTRAI_API_KEY", help="Asked of every request. Best given by the environment.")
    ] = None,
    request_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds from arrival to last token.")] = 600.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds in which running requests may finish at the end.")] = 10,
    trace: Annotated[bool, typer.Option("--trace", help="Let clients see the trace, and so every prompt.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts into the log.")] = False,
) -> None:
    """Serve a model to OpenAI's clients, until Ctrl-C or SIGTERM."""
    from astrai.inference.server.foreground import serve as serve_until_told

    names = {} if model_name is None else {"model_name": model_name}
    with _said_plainly():
        serve_until_told(
            model,
            host=host,
            port=port,
            max_batch_size=max_batch_size,
            num_slots=num_slots,
            max_seq_len=max_seq_len,
            max_waiting=max_waiting,
            dtype=dtype,
            device=device,
            grace=grace,
            api_key=api_key,
            request_timeout=request_timeout,
            trace=trace,
            log_prompts=log_prompts,
            **names,
        )


@app.command()
def render(
    names: Annotated[list[str] | None, typer.Argument(metavar="FILM", help="Which films; by default all.")] = None,
    trace: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Play this recorded run instead of the kept one.")
    ] = None,
    quality: Annotated[
        str, typer.Option(help="l (854x480, 15 frames a second), m (1280x720, 30), h (1920x1080, 60).")
    ] = "l",
    gif: Annotated[bool, typer.Option("--gif", help="Write a GIF under 1 MB beside each video too.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Films at once; by default one a core.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="The folder for videos and subtitles.")] = Path("films"),
    list_: Annotated[bool, typer.Option("--list", help="Say which films there are.")] = False,
) -> None:
    """Render the films: the engine at work, drawn from its recorded runs."""
    from astrai.films import catalogue
    from astrai.terminal.films import list_films, render_films

    with _said_plainly():
        chosen = catalogue.choose(names or (), trace)
        if list_:
            return list_films(chosen)
        catalogue.check_quality(quality)
        if trace is not None:
            catalogue.check_trace(trace)
        catalogue.check_manim()
        raise typer.Exit(render_films(chosen, quality, out, trace, gif, jobs))


@app.command(context_settings=MORE)
def lab(
    context: typer.Context,
    folder: Annotated[Path, typer.Option("--dir", help="Where the working copy lies.")] = Path("astrai-course"),
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    port: Annotated[int, typer.Option(help="The port of JupyterLab.")] = 8888,
) -> None:
    """Open the course in JupyterLab, in a working copy that never loses your edits. More options go to JupyterLab."""
    from astrai.lab import open_jupyterlab, update_working_copy

    with _said_plainly():
        delivery = update_working_copy(folder)
        for name in delivery.added:
            typer.echo(f"new       {folder / name}")
        for name in delivery.replaced:
            typer.echo(f"updated   {folder / name}")
        for name in delivery.outdated:
            typer.echo(f"yours     {folder / name} is kept; for its newer form, rename yours and run this again")
        options = ["--port", str(port), *([] if browser else ["--no-browser"]), *context.args]
        raise typer.Exit(open_jupyterlab(folder, options))


@app.command(context_settings=HAND_ON)
def train(context: typer.Context) -> None:
    """Train the bundled model again, on text that the package makes."""
    _hand_on("astrai.training.train", context.args)


@app.command(context_settings=HAND_ON)
def evaluate(context: typer.Context) -> None:
    """Score a model on held-out prompts."""
    _hand_on("astrai.training.evaluate", context.args)


@app.command(context_settings=HAND_ON)
def bench(context: typer.Context) -> None:
    """Measure this machine: the engine against Hugging Face on the same weights."""
    _hand_on("benchmarks", context.args)


@trace_app.command("show")
def trace_show(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A run written by `astrai trace record`.")],
    step: Annotated[int | None, typer.Option(help="Only this step, and the state after it.")] = None,
    final: Annotated[bool, typer.Option("--final", help="Only the final state.")] = False,
) -> None:
    """Print a recorded run step by step, and the state it ends in."""
    from astrai.terminal.recorded_run import print_run

    with _said_plainly():
        print_run(path, step=step, final_only=final)


@trace_app.command("record")
def trace_record(
    path: Annotated[Path, typer.Argument(dir_okay=False, help="The file to write, one event a line.")],
    model: Annotated[str, typer.Option(help="A bundled model, or a folder with a checkpoint.")] = "tiny",
) -> None:
    """Run a few chats that share a prefix, and record what the engine does."""
    from astrai.terminal.recorded_run import record_demo

    with _said_plainly():
        raise typer.Exit(record_demo(path, model))


def _hand_on(module: str, arguments: list[str]) -> None:
    """Run ``python -m module arguments`` in this process."""
    sys.argv = [f"python -m {module}", *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except ImportError as error:
        if error.name is not None and not module.startswith(error.name):
            raise _fail(f"this command needs {error.name}: pip install 'astrai[train,bench]'") from error
        raise _fail(f"{error}: this command runs in a checkout of the repository, after `make test`") from error


@contextmanager
def _said_plainly() -> Iterator[None]:
    """The caller's mistakes as one line instead of a traceback; a broken pipe is no mistake."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit from None
    except (ValueError, OSError) as error:
        raise _fail(str(error)) from error


def _fail(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)
