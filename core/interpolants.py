"""Continuous extensions of Runge-Kutta steps: the solution between the ends of a step, as exact data.

    y(t_n + x h) = y_n + h sum_i b_i(x) k_i,   0 <= x <= 1,   b_i(x) = sum_j weights[i][j] x^(j+1)

over the extended stages: the tableau's own; then, if its last one is not at y_{n+1} already, f(t_n + h, y_{n+1}); then
those that the extension adds. All extensions here take the values y_n, y_{n+1} and the slopes of the field there.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import zip_longest
from typing import NamedTuple

from .tableau import Row, Tableau
from .tableaus import TABLEAUS


class FloatInterpolant(NamedTuple):
    """The coefficients of an interpolant, each rounded once to the nearest Python float."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Interpolant:
    """A continuous extension of an explicit Runge-Kutta step, in exact numbers.

    Attributes:
        name: the name of the tableau it extends.
        order: its order, uniform in x: y(t_n + x h) is off by O(h^(order + 1)) after one step.
        c: the abscissae of all extended stages, the tableau's first.
        a: their rows; row i (from 0) has i entries.
        weights: for each extended stage the coefficients of x^1, x^2, .. of b_i(x).
        source: author, year, and where the coefficients stand.
        errata: what the literature has wrong, and what was refined.
    """

    name: str
    order: int
    c: Row
    a: tuple[Row, ...]
    weights: tuple[Row, ...]
    source: str
    errata: str = ""

    @cached_property
    def floats(self) -> FloatInterpolant:
        """The coefficients as Python floats, made on first use."""
        a, weights = (tuple(tuple(map(float, row)) for row in rows) for rows in (self.a, self.weights))
        return FloatInterpolant(tuple(map(float, self.c)), a, weights)


class _Record(NamedTuple):
    """What an extension adds to the cubic Hermite polynomial: x^2 (1 - x)^2 (d_1 + x (d_2 + (1 - x) (d_3 + x d_4)))."""

    order: int
    d: str
    """The rows d_1, d_2, .., separated by "|", one number for each extended stage."""
    source: str
    errata: str = ""
    c: str = ""
    """The abscissae of the extra stages."""
    a: str = ""
    """Their rows of a, separated by "|"."""


_RECORDS = {
    "dopri5": _Record(
        order=4,
        d="""-12715105075/11282082432 0 87487479700/32700410799 -10690763975/1880347072 701980252875/199316789632
        -1453857185/822651844 69997945/29380423""",
        source="Shampine 1986, doi:10.1090/S0025-5718-1986-0815836-3; as in Hairer, Norsett and Wanner, DOPRI5",
    ),
    "tsit5": _Record(
        order=4,
        d="""
        -1.0530884977290215572274903025230685499365 0.1017 2.4906272856512527930835450725881959383509
        -16.5481028892449027183072978622824732493312 47.3795219628192812186815818681988328035357
        -34.8706578614966097362303387759814869426189 2.5""",
        source="Tsitouras 2011, doi:10.1016/j.camwa.2011.06.002, section 4",
        errata=(
            "The printed digits were refined to 40 decimals (docs/notes/interpolants.md): the numbers that stand here "
            "with few digits are held, the conditions of order 4 give the rest, which agree with all printed digits of "
            "the leading coefficients."
        ),
    ),
    "dopri8": _Record(
        order=7,
        c="0.3110177634953863863927417318829099695921 0.7 0.2",
        a="""
        0.0443630017672969175471031533409710583174 0 0 0 0 0.0503966335312486697927759460820001310111
        0.2211796223268997864208118015268196526838 0.0053247467876484786325746487385249719058
        -0.0090201900442772977894751512484988440075 -0.0025276394257148529343914541806316455914
        0.0026033187287475776974460848862882458831 0.0058043101892093460622414966993491923204
        0.0054889951781894236460655306832856286988 -0.0125950355438616626824103246451984216294 |
        0.0430442146232539498864552031074208122382 0 0 0 0 0.1682533677079950089748195954382791007126
        0.2288090511012242037412532677742121925062 0.1031974369378120801231261265426105256778
        0.0709187284672681476771236832158258488595 0.0934294151446845038636295754646435880327
        0.0062454802652751609287778581392168608302 -0.0399542637051959444407138343467335777405
        0.0099934072967512389328369126222888160607 0.0269530745572735051831962624842150287256
        -0.0108899123963418548705046504419791959030 |
        0.0507096384990603158570522843720509235850 0 0 0 0 0.0159629236587614596494411407779665684817
        0.1707454898385916862037884546087540864629 0.0076961529254775377115058331074652456143
        -0.0007442545640723834889695008764475342532 -0.0366901724756139731853830871025413207474
        -0.0127362536658216492310084462483912092501 0.0297108508204043076102822544536272305299
        -0.0204144232230983960037288785486741885052 -0.0032887915434569007868337841278665923700
        -0.0410149361838539913890081815293003332779 0.0400637759136219870528619111133571237300""",
        d="""
        -6.1176371986879706999016662455067437940894 0 0 0 0 -2.5772636979569113821051660940095396248732
        16.5553635646615971537984941349889462561712 30.1275920800840095147954051771209045158019
        -26.4427060004555551479569942271173656280842 18.6900734082158687876444324746184291210642
        1.0493221767070777522512531908950948603630 -0.1817411548595994565573008478148071950177
        0.1760449596441548522948774798734318743815 0.2985798570253507725698050660814198628967
        -22.7283201706164138197508953238542236370184 -10.2422446769247978353189859929994666847524
        1.3929368531631895082367412077239200731559 |
        5.6999358948828000221920851066401071542956 0 0 0 0 12.4786332302995229204588839258171881378335
        -17.4440814154868293690849666738928075942238 -74.4314982314837651695112036417699942134242
        81.3714071149621156847914772184362686518552 -64.1931103368084994032874969702822587501467
        -13.8187243630618158690295116516872863725968 19.5828780303931911648620715598677959376280
        -21.0581907260781553722927285271277801888601 9.9809495360575133570745308034299398192764
        33.3790604186363645370637221983049424013758 32.9313816735638976000608915351841848810006
        -4.4786408258763401032977548829202998640113 |
        13.5730612717039522751366487841424494121086 0 0 0 0 -28.7435328380433406112185050394537513557977
        -80.1643735166471500361494240056464840723658 -44.5916707947972697907097817987767630175960
        18.4809841543001565026308098688305519665356 -31.4096213864490992732934224943179706760565
        -1.3910783858122295637819817661197443440838 2.5135222606738008759044048607753246687091
        -0.0904649026728093809979477594003552441943 -3.5763302468043588038423899129127458221921
        75.9295916064010199695912675384980036045852 32.4905784064029988335172599327523003299512
        46.9793343717443290032130617916291845503973 |
        -13.9210488848437511934844421587389137432627 0 0 0 0 35.0311768637483052664025133187002374596933
        109.5667083047885993454538523486181026090699 131.0612807367996514743397106180859628602733
        -124.5123870454550459623353665815501092099691 146.3648994144179105263458522601860904933696
        40.0589285800199377493802897789769340521405 -66.3758551121688814605759498729040200353998
        66.2276998806696845905139636387688443672983 -18.8785160068962852693145445402741462326591
        -95.4971435740185454611382156464463177919304 -123.0666543048060733376748110950357743769156
        -86.0590888522555062679128520683868904517118""",
        source="derived here (docs/notes/interpolants.md), after Enright, Jackson, Norsett and Thomsen 1986, "
        "doi:10.1145/7921.7923",
        errata=(
            "The extension that diffrax has under this name, of degree 6 without extra stages, satisfies the "
            "conditions of order 5 only; torchdiffeq takes its value at x = 1/2."
        ),
    ),
}


def _parse(text: str) -> tuple[Row, ...]:
    return tuple(tuple(map(Fraction, row.split())) for row in text.split("|")) if text else ()


def _polynomials() -> tuple[tuple[int, ...], ...]:
    """The coefficients of x^1, x^2, .. of what d_1 .. d_4 stand at: x^2 (1-x)^2, times x, 1 - x, x."""
    found: list[tuple[int, ...]] = [(0, 1, -2, 1)]
    for slope, constant in ((1, 0), (-1, 1), (1, 0)):
        last = found[-1]
        found.append(tuple(constant * p + slope * q for p, q in zip((*last, 0), (0, *last), strict=True)))
    return tuple(found)


_POLYNOMIALS = _polynomials()


def _hermite(b: Row, end: int) -> list[Row]:
    """The cubic polynomial of y_n, y_{n+1} = y_n + h sum_i b_i k_i, k_1 and k_end."""
    slopes = {0: (1, -2, 1), end: (0, -1, 1)}
    return [
        tuple(weight * p + q for p, q in zip((0, 3, -2), slopes.get(i, (0, 0, 0)), strict=True))
        for i, weight in enumerate(b)
    ]


@lru_cache(maxsize=128)
def interpolant(tableau: Tableau) -> Interpolant:
    """The continuous extension of a method: a published one, else the cubic Hermite polynomial.

    dopri5, tsit5: order 4 without extra stages. dopri8: order 7 with three extra stages. Any other: order 3 (or the
    method's own, if lower) from y_n, y_{n+1} and the slopes at both ends; for bosh3 that is the published one.

    Args:
        tableau: the method. One that only shares its name with a record of the catalogue is another method.

    Examples:
        >>> from janode.core.tableaus import TABLEAUS
        >>> interpolant(TABLEAUS["rk4"]).order
        3
    """
    c, a, b = tableau.c, tableau.a, tableau.b
    if not tableau.is_fsal:
        c, a, b = (*c, Fraction(1)), (*a, tableau.b), (*b, Fraction(0))
    end = len(b) - 1
    record = _RECORDS.get(tableau.name) if TABLEAUS.get(tableau.name) == tableau else None
    if record is None:
        source = "Hermite's cubic polynomial on both ends of a step"
        return Interpolant(tableau.name, min(3, tableau.order), c, a, tuple(_hermite(b, end)), source)
    extra_c = tuple(map(Fraction, record.c.split()))
    weights = _hermite((*b, *[Fraction(0)] * len(extra_c)), end)
    for d, polynomial in zip(_parse(record.d), _POLYNOMIALS, strict=False):
        weights = [
            tuple(p + share * q for p, q in zip_longest(row, polynomial, fillvalue=Fraction(0)))
            for row, share in zip(weights, d, strict=True)
        ]
    return Interpolant(
        tableau.name,
        record.order,
        (*c, *extra_c),
        (*a, *_parse(record.a)),
        tuple(weights),
        record.source,
        record.errata,
    )
