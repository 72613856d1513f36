"""The command line of `run.py`: wrong requests get one line before anything runs; then every cell is run in turn.

Hydra composes the configuration. Its machinery of jobs runs only where a launcher is asked for.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from sega.errors import FULL_OR_FORBIDDEN, IN_THE_WAY, RequestError, answer, output_closed, shortened
from sega.home import CONF, as_typed
from sega.run.hooks import NO_HOOKS, Hooks

if TYPE_CHECKING:
    from sega.run.request import Request

CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
SHOW = {
    "--cfg": CFG,
    "-c": CFG,
    "--info": INFO,
    "-i": INFO,
    "--package": (),
    "-p": (),
    "--resolve": None,
    "--hydra-help": None,
    "--version": None,
    "--shell-completion": None,
    "-sc": None,
}
"""Options of Hydra that only show something, with the values they take; () for any, None for no value."""
ELSEWHERE = ("--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun")
"""Options of Hydra that would take another configuration, which nothing here has checked."""


def main(arguments: list[str], hooks: Hooks = NO_HOOKS, maker: Any = None, program: str = "run.py") -> int:
    """Exit status: 0 done; 2 the request is wrong; 1 anything else, failed or missing images included.

    `hooks` is what the evaluation offers; `maker` makes the images, a `Maker` of
    `sega.run.maker` unless given. `program` begins the lines that say what is wrong.
    """
    try:
        return answer(program, partial(_command, arguments, hooks, maker, program))
    except KeyboardInterrupt:
        print(f"{program}: interrupted; run the same command again to resume", file=sys.stderr)
        return 1


def _command(arguments: list[str], hooks: Hooks, maker: Any, program: str) -> int:
    if {"-h", "--help"} & set(arguments):
        from sega.run.help import help_text

        print(as_typed(help_text()))
        return 0
    words, shown = _split_show(arguments)
    if not shown:
        from sega.run import draft, first_look

        draft.check(first_look.check(words), hooks)
    from sega.run.request import compose_all, read_request

    if shown:
        if not {"--shell-completion", "-sc"} & set(shown):
            compose_all(words)  # a wrong word is answered here, in one line
        elif not words or not words[0].startswith(("install=", "uninstall=", "query=")):
            raise RequestError("--shell-completion takes install=<shell> or uninstall=<shell>, such as install=bash")
        return 2 if _hydra([*words, *shown], _nothing) else 0
    try:
        request = read_request(words, hooks)
    except OSError as error:
        raise RequestError(f"{shortened(error.filename or 'a file')}: {error.strerror}") from error
    if any(cell.config["dry_run"] for cell in request.cells):
        from sega.run.dryrun import show

        return show(request.cells)
    return _run(request, hooks, maker, program)


def _split_show(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The words, and the options of Hydra that show something. RequestError for options that can't be."""
    words, shown, rest = [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ELSEWHERE:
            raise RequestError(
                f"{name} is not taken; put your files into a folder, as method/mine.yaml; give --config-dir <folder>"
            )
        if name not in SHOW:
            words.append(word)
            continue
        shown.append(word)
        choices = SHOW[name]
        if choices is None:
            continue
        if not equals and rest and (rest[0] in choices or choices != INFO):
            value = rest.pop(0)
            shown.append(value)
        if choices and value not in (choices if choices == CFG or equals else (*choices, "")):
            raise RequestError(f"{name} {shortened(value)}: must be one of {', '.join(choices)}")
        if not choices and (not value or "=" in value):
            raise RequestError(f"{name} needs the name of a package, such as {name} model")
    options = [word.partition("=")[0] for word in shown if word.startswith("-")]
    showing = [name for name in options if name not in ("--package", "-p", "--resolve")]
    if shown and not showing:
        raise RequestError(f"{shown[0]} goes with --cfg job")
    if len(showing) > 1 or (showing and {"-m", "--multirun"} & set(words)):
        raise RequestError(f"{showing[0]} shows one cell and goes with no other such option, nor with -m")
    return words, shown


def _run(request: Request, hooks: Hooks, maker: Any, program: str) -> int:
    """Make the images of a request: in this process or, with a launcher, in others that this one waits for."""
    from sega.run import unsent
    from sega.run.maker import Maker
    from sega.run.progress import watched
    from sega.run.sweep import sweep_of
    from sega.run.worker import Session

    sweep = sweep_of(request.cells)
    session = Session(hooks, maker or Maker(), sweep=sweep)
    with session.stop.handled(patient=request.launcher is not None):
        if request.launcher is None:
            status = max(run_cell(cell, session, program) for cell in request.cells)
        else:
            with watched(sweep):
                status = _hydra(request.words, partial(_launched, hooks=hooks, maker=maker, program=program))
    if session.stop.requested and not status:
        raise KeyboardInterrupt
    now = sweep.count()
    if now.failed or now.left:
        words = [f"{now.done} there"] + ([f"{now.failed} failed"] if now.failed else [])
        if now.left:
            words.append(f"{now.left} missing: run the same command again to make them")
        if now.failed:
            reasons = sweep.failures()[0].failed_file
            words.append(f"the reasons are in {reasons}; retry_failed=true tries again")
        print(f"{now.total} images: {'; '.join(words)}", flush=True)
    for line in unsent.of_cells(request.cells):
        print(line, flush=True)
    return status or int(bool(now.failed or now.left))


def run_cell(cell: Any, session: Any, program: str) -> int:
    """Run one cell; what stops it is said in one line. Returns its exit status; the next cells go on."""
    from sega.run.worker import run

    try:
        run(cell, session)
    except RequestError as error:
        print(f"{program}: {error}", file=sys.stderr, flush=True)
        return 2
    except BrokenPipeError:
        session.stop.request()
        return output_closed(program)
    except OSError as error:
        if error.errno not in FULL_OR_FORBIDDEN | IN_THE_WAY:
            raise
        print(
            f"{program}: {error.filename or cell.config['store']} can't be written ({error.strerror}); finished images "
            "are kept; mend this, then run the same command again",
            file=sys.stderr,
            flush=True,
        )
        session.stop.request()
        return 1
    return 0


def _hydra(words: list[str], task: Any) -> int:
    """Hand words to Hydra, which calls `task` with each configuration, in processes of a launcher if one is given."""
    import hydra

    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.argv = before
    return 0


def _nothing(config: Any) -> None:
    """The task of an option that only shows something."""


def _launched(config: Any, hooks: Hooks, maker: Any, program: str) -> int:
    """One cell, in the process that a launcher has chosen."""
    from sega.run.cell import build_cell
    from sega.run.maker import Maker
    from sega.run.request import plain
    from sega.run.worker import Session

    session = Session(hooks, maker or Maker(), plain=True)
    return run_cell(build_cell(plain(config)), session, program)
