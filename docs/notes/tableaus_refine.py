"""Refine the published, rounded coefficients of tsit5 and dopri8 to 40 decimals, and print them.

Run with ``python docs/notes/tableaus_refine.py`` (NumPy, mpmath; seconds). In the published texts ``~`` marks a rounded
value, an unknown; all else is held as it stands. The equations are all order conditions of both weights, the
simplifying assumptions the method was built on (without them some order conditions are squares, and see an error of
1e-17 as 1e-34), and the first-same-as-last property. ``subquadrature[k]`` is the first stage i with
sum_j a_ij c_j^(k-1) = c_i^k / k; ``columns[k]`` are the columns j with sum_i b_i c_i^(k-1) a_ij = b_j (1 - c_j^k) / k,
``columns_hat`` the same for b_hat. The unknowns are isolated, so the result depends on nothing but what is held.
Newton's method runs with the float64 pseudo-inverse of the Jacobian and 60-digit residuals: ten digits per iteration.
"""

from fractions import Fraction
from math import prod

import mpmath
import numpy as np

# The paper prints error weights under the name b_hat, the last with a wrong sign; here stands b minus the right ones.
TSIT5 = {
    "order": 5,
    "embedded_order": 4,
    "c": "0 0.161 0.327 0.9 0.9800255409045097~ 1 1",
    "a": """0.161 | -0.008480655492356989~ 0.335480655492357~ |
    2.8971530571054935~ -6.359448489975075~ 4.362295432869581~ |
    5.325864828439257~ -11.74888356406283~ 7.495539342889836~ -0.09249506636175525~ |
    5.86145544294642~ -12.92096931784711~ 8.159367898576159~ -0.071584973281401~ -0.02826905039406838~ |
    0.09646076681806523~ 0.01 0.4798896504144996~ 1.379008574103742~ -3.290069515436081~ 2.324710524099774~""",
    "b": "0.09646076681806523~ 0.01 0.4798896504144996~ 1.379008574103742~ -3.290069515436081~ 2.324710524099774~ 0",
    "b_hat": """0.094680755765839~ 0.009183565540343~ 0.487770528424762~ 1.234297566930479~ -2.707712349983526~
    1.866628418170587~ 1/66""",
    "columns": {1: slice(None)},
    "columns_hat": {},
    "subquadrature": {},
}

# c11 is held at 19 digits (printed: 1201146811/1299019798, 2.3e-18 less) and a(10,6) at the printed value: they are the
# two directions in which the conditions leave this method free.
DOPRI8 = {
    "order": 8,
    "embedded_order": 7,
    "c": "0 1/18 1/12 1/8 5/16 3/8 59/400 93/200 5490023248/9719169821 13/20 0.9246562776405044467 1 1",
    "a": """1/18 | 1/48 1/16 | 1/32 0 3/32 | 5/16 0 -75/64 75/64 | 3/80 0 0 3/16 3/20 |
    29443841/614563906~ 0 0 77736538/692538347~ -28693883/1125000000 23124283/1800000000 |
    16016141/946692911~ 0 0 61564180/158732637~ 22789713/633445777~ 545815736/2771057229~ -180193667/1043307555~ |
    39632708/573591083~ 0 0 -433636366/683701615~ -421739975/2616292301~ 100302831/723423059~ 790204164/839813087~
    800635310/3783071287~ |
    246121993/1340847787~ 0 0 -37695042795/15268766246~ -309121744/1061227803~ -12992083/490766935
    6005943493/2108947869~ 393006217/1396673457~ 123872331/1001029789~ |
    -1028468189/846180014~ 0 0 8478235783/508512852~ 1311729495/1432422823~ -10304129995/1701304382~
    -48777925059/3047939560~ 15336726248/1032824649~ -45442868181/3398467696~ 3065993473/597172653~ |
    185892177/718116043~ 0 0 -3185094517/667107341~ -477755414/1098053517~ -703635378/230739211~
    5731566787/1027545527~ 5232866602/850066563~ -4093664535/808688257~ 3962137247/1805957418~ 65686358/487910083~ |
    403863854/491063109~ 0 0 -5068492393/434740067~ -411421997/543043805~ 652783627/914296604~ 11173962825/925320556~
    -13158990841/6184727034~ 3936647629/1978049680~ -160528059/685178525~ 248638103/1413531060~ 0""",
    "b": """14005451/335480064~ 0 0 0 0 -59238493/1068277825~ 181606767/758867731~ 561292985/797845732~
    -1041891430/1371343529~ 760417239/1151165299~ 118820643/751138087~ -528747749/2220607170~ 1/4""",
    "b_hat": """13451932/455176623~ 0 0 0 0 -808719846/976000145~ 1757004468/5645159321~ 656045339/265891186~
    -3867574721/1518517206~ 465885868/322736535~ 53011238/667516719~ 2/45 0""",
    "columns": {1: slice(None), 2: slice(3, 5), 3: slice(3, 5)},
    "columns_hat": {1: slice(None), 2: slice(3, 5)},
    "subquadrature": {2: 3, 3: 3, 4: 6},
}


def grow(tree):
    """The trees with one more leaf; a tree is the sorted tuple of its subtrees."""
    grafted = {(*tree[:i], larger, *tree[i + 1 :]) for i, child in enumerate(tree) for larger in grow(child)}
    return {tuple(sorted(each)) for each in {(*tree, ())} | grafted}


def trees(order):
    """The rooted trees of up to that many nodes."""
    levels = [{()}]
    while len(levels) < order:
        levels.append({larger for tree in levels[-1] for larger in grow(tree)})
    return [tree for level in levels for tree in sorted(level)]


def count(tree):
    """The number of nodes."""
    return 1 + sum(map(count, tree))


def density(tree):
    """The density gamma(t): an order condition reads b . Phi(t) = 1 / gamma(t)."""
    return count(tree) * prod(map(density, tree))


def parse(method):
    """The coefficients c, a (s x s), b, b_hat as one list of texts, and as numbers."""
    rows = [row.split() for row in ("|" + method["a"]).split("|")]
    texts = method["c"].split() + [text for row in rows for text in row + ["0"] * (len(rows) - len(row))]
    texts += method["b"].split() + method["b_hat"].split()
    exact = [Fraction(text.rstrip("~")) for text in texts]
    return texts, np.array([mpmath.mpf(value.numerator) / value.denominator for value in exact])


def residuals(method, x, conditions):
    """The residuals of all equations at the coefficients x: complex numbers or mpmath's."""
    s = len(method["c"].split())
    c, a, b, b_hat = x[:s], x[s : -2 * s].reshape(s, s), x[-2 * s : -s], x[-s:]
    weights = {}
    for tree in conditions:
        weights[tree] = prod((a @ weights[child] for child in tree), start=c**0)
    found = [a.sum(1) - c]
    found += [(a @ c ** (k - 1) - c**k / k)[first - 1 :] for k, first in method["subquadrature"].items()]
    if method["a"].split("|")[-1].split() == method["b"].split()[:-1]:
        found.append(a[-1] - b)
    for w, order, columns in ((b, "order", "columns"), (b_hat, "embedded_order", "columns_hat")):
        found += [((w * c ** (k - 1)) @ a - w * (1 - c**k) / k)[which] for k, which in method[columns].items()]
        found.append(np.array([density(t) * (w @ weights[t]) - 1 for t in conditions if count(t) <= method[order]]))
    return np.concatenate(found)


def refine(method):
    """The texts of all coefficients with the unknowns solved for, and their largest absolute and relative change."""
    texts, start = parse(method)
    unknown = np.array(["~" in text for text in texts])
    conditions = trees(method["order"])
    jacobian = []
    for place in np.flatnonzero(unknown):
        x = start.astype(complex)
        x[place] += 1e-30j
        jacobian.append(residuals(method, x, conditions).imag / 1e-30)
    if np.linalg.matrix_rank(jacobian, rtol=1e-10) < len(jacobian):
        raise SystemExit("the unknowns are not isolated: hold more of them")
    inverse = np.linalg.pinv(np.array(jacobian).T, rcond=1e-10)
    x = start.copy()
    while (size := max(abs(r := residuals(method, x, conditions)))) > 1e-55:
        x[unknown] -= inverse @ (r / size).astype(float) * size
    change = abs(x - start)[unknown]
    solved = [decimals(value) if free else text for value, free, text in zip(x, unknown, texts, strict=True)]
    return solved, float(max(change)), float(max(change / abs(start[unknown])))


def decimals(value):
    """The value rounded to 40 decimals."""
    sign, digits = "-" * (value < 0), str(int(mpmath.nint(abs(value) * mpmath.mpf(10) ** 40))).zfill(41)
    return f"{sign}{digits[:-40]}.{digits[-40:]}"


mpmath.mp.dps = 60
if __name__ == "__main__":
    for method in (TSIT5, DOPRI8):
        solved, change, relative = refine(method)
        print(*solved)
        print(f"largest change {change:.2g}, relative {relative:.2g}\n")
