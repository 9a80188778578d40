"""Bad input is refused in words, before the field is evaluated where that is possible."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import janode.array as jo
from janode.core.adjoint import RECOVERIES
from janode.core.tableaus import TABLEAUS

from .problems import TARGETS, Y0, YS_BAR, Counted, params, value

DEVICE = TARGETS["strict-device1-f64"]
STRICT = TARGETS["strict-f64"]
SOLVES = {"solve": jo.solve, "solve_vjp": jo.solve_vjp}


def call(where: str, **changes: Any) -> Any:
    """The solve with some arguments changed."""
    options = {"field": Counted().field, "y0": Y0, "ts": [0.0, 1.0], "params": params(), "method": "rk4", "steps": 2}
    return SOLVES[where](**{**options, **changes})


# Refused before the first evaluation.

NUMBERS = "ts must be a sequence of real numbers; got {got}. Give the start and the end."
ORDER = "ts must be strictly increasing or strictly decreasing; got {got}. Sort the times and remove repeated ones."
STEPS = "steps must be an integer >= 1; got {got}. It is the number of equal steps between neighbouring ts."
SIZE = "step_size must be a positive finite number; got {got}. Give its magnitude: the direction follows from ts."
ONE_OF_TWO = "exactly one of steps and step_size must be given; got {got}. Give one of them."
FLOATING = "y0 must be a real or complex floating-point array; got dtype {got}. Convert it, for example to float64."
PARAMETER = (
    "{path} must be a real or complex floating-point array; got dtype {got}. Convert it, or let the field close over "
    "what is not a parameter."
)
ARRAY = "{path} must be an array; got {got}. Make it an array of the library you use."
FINITE = "y0 must be finite; got an infinite or NaN entry. Check how it is computed."
LIBRARIES = "all arrays must come from one library; got {got}. Convert them to one."

Case = tuple[dict[str, Any], str]
CASES: dict[str, Case] = {
    "no times": ({"ts": []}, "ts must have at least 2 entries; got 0. Give the start and the end."),
    "one time": ({"ts": [0.0]}, "ts must have at least 2 entries; got 1. Give the start and the end."),
    "a number for times": ({"ts": 1.0}, NUMBERS.format(got="1.0")),
    "nothing for times": ({"ts": None}, NUMBERS.format(got="None")),
    "text for times": ({"ts": ["start", "end"]}, NUMBERS.format(got="['start', 'end']")),
    "complex times": ({"ts": [0.0, 1j]}, NUMBERS.format(got="[0.0, 1j]")),
    "times in a table": ({"ts": np.zeros((1, 1))}, NUMBERS.format(got="array([[0.]])")),
    "0-d times": ({"ts": np.zeros(())}, NUMBERS.format(got="array(0.)")),
    "NaN among times": ({"ts": [0.0, np.nan]}, "ts must be finite; got ts[1] = nan. Remove or replace it."),
    "infinite time": ({"ts": [-np.inf, 0.0]}, "ts must be finite; got ts[0] = -inf. Remove or replace it."),
    "repeated first time": ({"ts": [1.0, 1.0]}, ORDER.format(got="ts[0] = 1.0, ts[1] = 1.0")),
    "repeated last time": ({"ts": [0.0, 1.0, 1.0]}, ORDER.format(got="ts[1] = 1.0, ts[2] = 1.0")),
    "rising, then falling": ({"ts": [0.0, 2.0, 1.0]}, ORDER.format(got="ts[1] = 2.0, ts[2] = 1.0")),
    "falling, then rising": ({"ts": [0.0, -2.0, -1.0]}, ORDER.format(got="ts[1] = -2.0, ts[2] = -1.0")),
    "no steps": ({"steps": None}, ONE_OF_TWO.format(got="neither")),
    "steps and step_size": ({"step_size": 0.5}, ONE_OF_TWO.format(got="both (steps=2, step_size=0.5)")),
    "zero steps": ({"steps": 0}, STEPS.format(got="0")),
    "negative steps": ({"steps": -3}, STEPS.format(got="-3")),
    "a float of steps": ({"steps": 2.0}, STEPS.format(got="2.0")),
    "a boolean of steps": ({"steps": True}, STEPS.format(got="True")),
    "text of steps": ({"steps": "2"}, STEPS.format(got="'2'")),
    "zero step_size": ({"steps": None, "step_size": 0.0}, SIZE.format(got="0.0")),
    "negative step_size": ({"steps": None, "step_size": -0.5}, SIZE.format(got="-0.5")),
    "infinite step_size": ({"steps": None, "step_size": np.inf}, SIZE.format(got="inf")),
    "NaN step_size": ({"steps": None, "step_size": np.nan}, SIZE.format(got="nan")),
    "boolean step_size": ({"steps": None, "step_size": True}, SIZE.format(got="True")),
    "text step_size": ({"steps": None, "step_size": "0.5"}, SIZE.format(got="'0.5'")),
    "on_failure": (
        {"on_failure": "ignore"},
        'on_failure must be "raise" or "return"; got \'ignore\'. With "return" the status is in the solution.',
    ),
    "no y0": ({"y0": None}, "y0 must have at least one array; got none. Give the initial state."),
    "empty y0": ({"y0": {}}, "y0 must have at least one array; got none. Give the initial state."),
    "integer y0": ({"y0": np.arange(2)}, FLOATING.format(got="int64")),
    "boolean y0": ({"y0": np.zeros(2, bool)}, FLOATING.format(got="bool")),
    "object y0": ({"y0": np.zeros(2, object)}, FLOATING.format(got="object")),
    "integer leaf": ({"y0": {"u": Y0, "v": [np.arange(2)]}}, FLOATING.format(got="int64").replace("y0", "y0['v'][0]")),
    "a number for y0": ({"y0": 1.0}, ARRAY.format(path="y0", got="float")),
    "numbers for y0": ({"y0": [1.0, 2.0]}, ARRAY.format(path="y0[0]", got="float")),
    "a number for params": ({"params": {"A": params()["A"], "b": 0.5}}, ARRAY.format(path="params['b']", got="float")),
    "integer params": ({"params": np.arange(2)}, PARAMETER.format(path="params", got="int64")),
    "boolean parameter": (
        {"params": (Y0, {"mask": np.zeros(2, bool)})},
        PARAMETER.format(path="params[1]['mask']", got="bool"),
    ),
    "params of another library": (
        {"params": STRICT.array(1.0)},
        LIBRARIES.format(got="y0: array_api_compat.numpy, params: array_api_strict"),
    ),
    "leaves of two libraries": (
        {"y0": (STRICT.array(Y0), Y0), "params": None},
        LIBRARIES.format(got="y0[0]: array_api_strict, y0[1]: array_api_compat.numpy"),
    ),
    "params on another device": (
        {"y0": STRICT.array(Y0), "params": DEVICE.array(1.0)},
        "all arrays must be on one device; got y0: array_api_strict.Device('CPU_DEVICE'), "
        "params: array_api_strict.Device('device1'). Move them to one.",
    ),
    "NaN in y0": ({"y0": np.array([0.0, np.nan])}, FINITE),
    "infinite leaf": ({"y0": (Y0, np.array(-np.inf))}, FINITE),
    "infinite imaginary part": ({"y0": np.array([complex(0.0, np.inf)])}, FINITE),
}


@pytest.mark.parametrize("where", SOLVES)
@pytest.mark.parametrize("case", CASES)
def test_refused_before_the_first_evaluation(case: str, where: str) -> None:
    changes, text = CASES[case]
    counted = Counted()
    with pytest.raises(jo.InputError) as caught:
        call(where, field=counted.field, **changes)
    assert str(caught.value) == f"{where}: {text}"
    assert counted.num_field_evals == 0


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (
            "solve",
            "solve: field must be callable as field(t, y) or field(t, y, params); got ndarray. Give a function that "
            "returns dy/dt.",
        ),
        (
            "solve_vjp",
            "solve_vjp: field must bring its VJP; got ndarray. Give Field(fn, vjp) or a network of janode.core.layers.",
        ),
    ],
)
def test_what_is_no_field_is_refused(where: str, text: str) -> None:
    with pytest.raises(jo.InputError) as caught:
        call(where, field=Y0)
    assert str(caught.value) == text


def test_a_function_has_no_vjp() -> None:
    with pytest.raises(jo.InputError, match="solve_vjp: field must bring its VJP; got function"):
        call("solve_vjp", field=value)


@pytest.mark.parametrize("where", SOLVES)
@pytest.mark.parametrize(
    ("argument", "got", "nearest"),
    [
        ("method", "rk44", "rk4"),
        ("method", "dopri", "dopri"),
        ("method", "Euler", "euler"),
        ("method", "adaptive heun", "adaptive_heun"),
        ("adjoint", "simplectic", "symplectic"),
        ("adjoint", "back_prop", "backprop"),
    ],
)
def test_names_are_refused_with_the_nearest_first(argument: str, got: str, nearest: str, where: str) -> None:
    counted = Counted()
    with pytest.raises(jo.InputError) as caught:
        call(where, field=counted.field, **{argument: got})
    assert str(caught.value).startswith(f"solve: {argument} must be one of: {nearest}")
    assert str(caught.value).endswith(f"; got {got!r}. Choose a name from the list.")
    assert counted.num_field_evals == 0


@pytest.mark.parametrize("where", SOLVES)
@pytest.mark.parametrize("got", [None, 4, RECOVERIES, ["rk4"]], ids=["None", "int", "dict", "list"])
@pytest.mark.parametrize("argument", ["method", "adjoint"])
def test_what_is_no_name_is_refused(argument: str, got: object, where: str) -> None:
    with pytest.raises(jo.InputError, match=f"solve: {argument} must be one of: "):
        call(where, **{argument: got})


@pytest.mark.parametrize(("argument", "legal"), [("method", TABLEAUS), ("adjoint", ["auto", *RECOVERIES])])
def test_all_legal_names_are_listed(argument: str, legal: Any) -> None:
    with pytest.raises(jo.InputError) as caught:
        call("solve", **{argument: "?"})
    listed = str(caught.value).split("one of: ")[1].split(";")[0].split(", ")
    assert set(legal) <= set(listed)
    assert listed == sorted(listed)


# Refused at the first evaluation: only the field knows its output.

LIKE = (
    "the field must return shape (2,) and dtype {dtype} for y0; got {got}. Return dy/dt with the shape and dtype of y."
)
STRUCTURE = "the field must return the pytree of the state, {state}; got {got}. Return dy/dt in the structure of y."
Output = tuple[Any, Callable[[Any], Any], str]
OUTPUTS: dict[str, Output] = {
    "shape": (Y0, lambda y: np.zeros(3), LIKE.format(dtype="float64", got="shape (3,) and dtype float64")),
    "0-d": (Y0, lambda y: np.sum(y), LIKE.format(dtype="float64", got="shape () and dtype float64")),
    "dtype": (Y0, lambda y: y.astype(np.float32), LIKE.format(dtype="float64", got="shape (2,) and dtype float32")),
    "complex": (Y0, lambda y: 1j * y, LIKE.format(dtype="float64", got="shape (2,) and dtype complex128")),
    "integer": (Y0, lambda y: np.arange(2), LIKE.format(dtype="float64", got="shape (2,) and dtype int64")),
    "library": (
        STRICT.array(Y0),
        lambda y: Y0,
        LIKE.format(dtype="array_api_strict.float64", got="shape (2,) and dtype float64"),
    ),
    "device": (
        STRICT.array(Y0),
        lambda y: DEVICE.array(Y0),
        "the field must return y0 on array_api_strict.Device('CPU_DEVICE'); got array_api_strict.Device('device1'). "
        "Compute dy/dt on the device of y.",
    ),
    "nothing": (Y0, lambda y: None, STRUCTURE.format(state="a single array", got="None")),
    "a number": (Y0, lambda y: 1.0, STRUCTURE.format(state="a single array", got="PyTreeSpec(*)")),
    "a tuple": (Y0, lambda y: (y,), STRUCTURE.format(state="a single array", got="PyTreeSpec((*,))")),
    "an array for a dict": (
        {"u": Y0},
        lambda y: y["u"],
        STRUCTURE.format(state="PyTreeSpec({'u': *})", got="a single array"),
    ),
    "a missing key": (
        {"u": Y0, "v": Y0},
        lambda y: {"u": y["u"]},
        STRUCTURE.format(state="PyTreeSpec({'u': *, 'v': *})", got="PyTreeSpec({'u': *})"),
    ),
    "a leaf's shape": (
        {"u": Y0, "v": [Y0]},
        lambda y: {"u": y["u"], "v": [y["v"][0][:1]]},
        LIKE.format(dtype="float64", got="shape (1,) and dtype float64").replace("y0", "y0['v'][0]"),
    ),
}


@pytest.mark.parametrize("where", SOLVES)
@pytest.mark.parametrize("case", OUTPUTS)
def test_refused_output_of_the_field(case: str, where: str) -> None:
    y0, output, text = OUTPUTS[case]
    counted = Counted(lambda t, y: output(y))
    with pytest.raises(jo.InputError) as caught:
        call(where, field=counted.field, y0=y0, params=None)
    assert str(caught.value) == f"{where}: {text}"
    assert counted.num_field_evals == 1


BAR = (
    "{argument} must have {expected} for {path}; got {got}. Give the cotangent the shape and dtype of its primal, or "
    "None for zero."
)
TUPLE = (
    "the field's vjp must return a tuple of 3 cotangents, one for each argument of fn; got {got}. Return None for a "
    "cotangent that is zero."
)
MATCH = (
    "{argument} must have the structure of {name}, {spec}; got {got}. Give one cotangent for each array, or None for "
    "zero."
)
FLOAT2 = "shape (2,) and dtype float64"
SCALAR = "shape () and dtype float64"
BARS: dict[str, tuple[Callable[..., Any], str]] = {
    "a list": (lambda t, y, p: [t, y, p], TUPLE.format(got="list")),
    "an array": (lambda t, y, p: y, TUPLE.format(got="ndarray")),
    "two entries": (lambda t, y, p: (t, y), TUPLE.format(got="2 entries")),
    "y_bar summed": (
        lambda t, y, p: (t, np.sum(y), p),
        BAR.format(argument="y_bar", expected=FLOAT2, path="y0", got=SCALAR),
    ),
    "y_bar in float32": (
        lambda t, y, p: (t, y.astype(np.float32), p),
        BAR.format(argument="y_bar", expected=FLOAT2, path="y0", got="shape (2,) and dtype float32"),
    ),
    "y_bar in a tuple": (
        lambda t, y, p: (t, (y,), p),
        MATCH.format(argument="y_bar", name="y0", spec="a single array", got="PyTreeSpec((*,))"),
    ),
    "t_bar not summed": (
        lambda t, y, p: (y, y, p),
        BAR.format(argument="t_bar", expected=SCALAR, path="t", got=FLOAT2),
    ),
    "t_bar a number": (
        lambda t, y, p: (0.0, y, p),
        BAR.format(argument="t_bar", expected=SCALAR, path="t", got="float"),
    ),
    "b_bar not summed": (
        lambda t, y, p: (t, y, {"A": p["A"], "b": y}),
        BAR.format(argument="params_bar", expected=SCALAR, path="params['b']", got=FLOAT2),
    ),
    "params_bar of other keys": (
        lambda t, y, p: (t, y, {"A": p["A"]}),
        MATCH.format(
            argument="params_bar", name="params", spec="PyTreeSpec({'A': *, 'b': *})", got="PyTreeSpec({'A': *})"
        ),
    ),
}


@pytest.mark.parametrize("adjoint", RECOVERIES)
@pytest.mark.parametrize("case", BARS)
def test_refused_output_of_the_vjp(case: str, adjoint: str) -> None:
    output, text = BARS[case]
    counted = Counted(vjp=lambda t, y, p, f_bar: output(t, y, p))
    _, pullback = call("solve_vjp", field=counted.field, adjoint=adjoint)
    with pytest.raises(jo.InputError) as caught:
        pullback(YS_BAR[:2])
    assert str(caught.value) == f"solve_vjp: {text}"
    assert counted.num_vjps == 1


def primal(got: str, expected: str = "shape (2, 2) and dtype float64", path: str = "y0['u']") -> str:
    return BAR.format(argument="ys_bar", expected=expected, path=path, got=got)


YS_BARS: dict[str, tuple[Any, str]] = {
    "no leading axis": ({"u": Y0, "v": None}, primal("shape (2,) and dtype float64")),
    "too many times": ({"u": YS_BAR, "v": None}, primal("shape (3, 2) and dtype float64")),
    "float32": ({"u": YS_BAR[:2].astype(np.float32), "v": None}, primal("shape (2, 2) and dtype float32")),
    "complex": ({"u": 1j * YS_BAR[:2], "v": None}, primal("shape (2, 2) and dtype complex128")),
    "library": ({"u": STRICT.array(YS_BAR[:2]), "v": None}, primal("shape (2, 2) and dtype array_api_strict.float64")),
    "a number": ({"u": 1.0, "v": None}, primal("float")),
    "second leaf": ({"u": None, "v": Y0[:1]}, primal("shape (1,) and dtype float64", FLOAT2, "y0['v']")),
    "other keys": (
        {"u": YS_BAR[:2]},
        MATCH.format(argument="ys_bar", name="y0", spec="PyTreeSpec({'u': *, 'v': *})", got="PyTreeSpec({'u': *})"),
    ),
    "an array": (
        YS_BAR[:2],
        MATCH.format(argument="ys_bar", name="y0", spec="PyTreeSpec({'u': *, 'v': *})", got="a single array"),
    ),
}


@pytest.mark.parametrize("case", YS_BARS)
def test_refused_cotangents_of_the_solution(case: str) -> None:
    ys_bar, text = YS_BARS[case]
    counted = Counted(lambda t, y: y, lambda t, y, f_bar: (None, f_bar))
    y0 = {"u": Y0, "v": np.array(1.0)}
    _, pullback = call("solve_vjp", field=counted.field, y0=y0, params=None, adjoint="symplectic")
    with pytest.raises(jo.InputError) as caught:
        pullback(ys_bar)
    assert str(caught.value) == f"pullback: {text}"
    assert counted.num_vjps == 0
