"""How long a file and a function may be, and how many parameters it may have."""

from __future__ import annotations

import ast
from statistics import median

from tests.tidy.tree import Function, functions, modules, none_of, packages

FILE_LINES, FILE_LINES_MEDIAN = 400, 150
FUNCTION_LINES, KERNEL_LINES, FUNCTION_LINES_MEDIAN = 50, 70, 10
HEAD_LINES = 15
PARAMETERS = 6
COMMAND_PARAMETERS = 10  # a click command has one per option: they are its interface, and click passes them by name
KERNELS = {"kernel", "inline"}


def length_limit(function: Function) -> int:
    return KERNEL_LINES if function.decorators & KERNELS else FUNCTION_LINES


def is_command(function: Function) -> bool:
    calls = [node.func for node in function.node.decorator_list if isinstance(node, ast.Call)]
    return any(isinstance(called, ast.Attribute) and called.attr in ("command", "group") for called in calls)


def parameter_limit(function: Function) -> int:
    return COMMAND_PARAMETERS if is_command(function) else PARAMETERS


def parameters(function: Function) -> int:
    given = function.node.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")])


def test_no_file_is_longer_than_its_limit() -> None:
    lengths = {module.path: module.text.count("\n") for module in modules()}
    none_of(f"{path}: {lines}" for path, lines in lengths.items() if lines > FILE_LINES)


def test_files_are_short_as_a_rule() -> None:
    assert median(module.text.count("\n") for module in packages()) <= FILE_LINES_MEDIAN


def test_no_function_is_longer_than_its_limit() -> None:
    none_of(f"{found.where}: {found.lines}" for found in functions(modules()) if found.lines > length_limit(found))


def test_functions_are_short_as_a_rule() -> None:
    assert median(found.lines for found in functions(packages())) <= FUNCTION_LINES_MEDIAN


def test_no_function_takes_more_parameters_than_a_reader_can_keep_apart() -> None:
    counts = [(function, parameters(function)) for function in functions(modules())]
    none_of(f"{function.where}: {count}" for function, count in counts if count > parameter_limit(function))


def test_a_modules_head_is_its_manual_and_fits_on_a_card() -> None:
    heads = {module.path: ast.get_docstring(module.tree) or "" for module in modules()}
    none_of(f"{path}: {len(head.splitlines())}" for path, head in heads.items() if len(head.splitlines()) > HEAD_LINES)
    none_of(module.path for module in packages() if not heads[module.path])
