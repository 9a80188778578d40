"""The explicit Runge-Kutta methods by name: one record per method.

Every pair advances with its weights of higher order (local extrapolation), as SciPy and torchdiffeq do; the embedded
weights b_hat, of lower order, serve the error estimate.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from .errors import InputError
from .tableau import FloatTableau, Tableau, tableau

__all__ = [
    "DOPRI5",
    "DOPRI8",
    "EULER",
    "MIDPOINT",
    "RK4",
    "TABLEAUS",
    "TSIT5",
    "FloatTableau",
    "Tableau",
    "alpha2",
    "tableau",
]


_RECORDS = (
    tableau(
        name="euler",
        order=1,
        c="0",
        a="",
        b="1",
        source="Euler 1768, Institutiones calculi integralis, vol. 1",
    ),
    tableau(
        name="midpoint",
        order=2,
        c="0 1/2",
        a="1/2",
        b="0 1",
        source="Runge 1895, doi:10.1007/BF01446807",
    ),
    tableau(
        name="ralston",
        order=2,
        c="0 2/3",
        a="2/3",
        b="1/4 3/4",
        source="Ralston 1962, doi:10.1090/S0025-5718-1962-0150954-0",
    ),
    tableau(
        name="heun2",
        order=2,
        c="0 1",
        a="1",
        b="1/2 1/2",
        source="Heun 1900, Zeitschrift fuer Mathematik und Physik 45, 23-38",
    ),
    tableau(
        name="heun3",
        order=3,
        c="0 1/3 2/3",
        a="1/3 | 0 2/3",
        b="1/4 0 3/4",
        source="Heun 1900, Zeitschrift fuer Mathematik und Physik 45, 23-38",
    ),
    tableau(
        name="kutta3",
        order=3,
        c="0 1/2 1",
        a="1/2 | -1 2",
        b="1/6 2/3 1/6",
        source="Kutta 1901, Zeitschrift fuer Mathematik und Physik 46, 435-453",
    ),
    tableau(
        name="ssprk3",
        order=3,
        c="0 1 1/2",
        a="1 | 1/4 1/4",
        b="1/6 1/6 2/3",
        source="Shu and Osher 1988, doi:10.1016/0021-9991(88)90177-5, eq. (2.18)",
    ),
    tableau(
        name="rk4",
        order=4,
        c="0 1/2 1/2 1",
        a="1/2 | 0 1/2 | 0 0 1",
        b="1/6 1/3 1/3 1/6",
        source="Kutta 1901, Zeitschrift fuer Mathematik und Physik 46, 435-453",
    ),
    tableau(
        name="rk38",
        order=4,
        c="0 1/3 2/3 1",
        a="1/3 | -1/3 1 | 1 -1 1",
        b="1/8 3/8 3/8 1/8",
        source="Kutta 1901, Zeitschrift fuer Mathematik und Physik 46, 435-453",
    ),
    tableau(
        name="adaptive_heun",
        order=2,
        embedded_order=1,
        c="0 1",
        a="1",
        b="1/2 1/2",
        b_hat="1 0",
        source="Heun 1900, Zeitschrift fuer Mathematik und Physik 45, 23-38; error against Euler's method",
    ),
    tableau(
        name="fehlberg2",
        order=2,
        embedded_order=1,
        c="0 1/2 1",
        a="1/2 | 1/256 255/256",
        b="1/512 255/256 1/512",
        b_hat="1/256 255/256 0",
        source="Fehlberg 1969, NASA Technical Report R-315, RK1(2)",
    ),
    tableau(
        name="bosh3",
        order=3,
        embedded_order=2,
        c="0 1/2 3/4 1",
        a="1/2 | 0 3/4 | 2/9 1/3 4/9",
        b="2/9 1/3 4/9 0",
        b_hat="7/24 1/4 1/3 1/8",
        source="Bogacki and Shampine 1989, doi:10.1016/0893-9659(89)90079-7",
    ),
    tableau(
        name="fehlberg45",
        order=5,
        embedded_order=4,
        c="0 1/4 3/8 12/13 1 1/2",
        a="""1/4 | 3/32 9/32 | 1932/2197 -7200/2197 7296/2197 | 439/216 -8 3680/513 -845/4104 |
        -8/27 2 -3544/2565 1859/4104 -11/40""",
        b="16/135 0 6656/12825 28561/56430 -9/50 2/55",
        b_hat="25/216 0 1408/2565 2197/4104 -1/5 0",
        source="Fehlberg 1969, NASA Technical Report R-315, RK4(5), formula 2",
    ),
    tableau(
        name="cash_karp",
        order=5,
        embedded_order=4,
        c="0 1/5 3/10 3/5 1 7/8",
        a="""1/5 | 3/40 9/40 | 3/10 -9/10 6/5 | -11/54 5/2 -70/27 35/27 |
        1631/55296 175/512 575/13824 44275/110592 253/4096""",
        b="37/378 0 250/621 125/594 0 512/1771",
        b_hat="2825/27648 0 18575/48384 13525/55296 277/14336 1/4",
        source="Cash and Karp 1990, doi:10.1145/79505.79507",
    ),
    tableau(
        name="dopri5",
        order=5,
        embedded_order=4,
        c="0 1/5 3/10 4/5 8/9 1 1",
        a="""1/5 | 3/40 9/40 | 44/45 -56/15 32/9 | 19372/6561 -25360/2187 64448/6561 -212/729 |
        9017/3168 -355/33 46732/5247 49/176 -5103/18656 | 35/384 0 500/1113 125/192 -2187/6784 11/84""",
        b="35/384 0 500/1113 125/192 -2187/6784 11/84 0",
        b_hat="5179/57600 0 7571/16695 393/640 -92097/339200 187/2100 1/40",
        source="Dormand and Prince 1980, doi:10.1016/0771-050X(80)90013-3, RK5(4)7M",
    ),
    tableau(
        name="tsit5",
        order=5,
        embedded_order=4,
        c="0 0.161 0.327 0.9 0.9800255409045096857298102862870245954942 1 1",
        a="""
        0.161 |
        -0.0084806554923569885444268742502307746751 0.3354806554923569885444268742502307746751 |
        2.8971530571054934321304325941929387649249 -6.3594484899750748431481599123838256259527
        4.3622954328695814110177273181908868610278 |
        5.3258648284392566044288779208405113178365 -11.7488835640628278777471703397857729618874
        7.4955393428898362083046047845643581556587 -0.0924950663617552492565020793320719161135 |
        5.8614554429464200286592514869826478903943 -12.9209693178471092917061186817833593954178
        8.1593678985761586431804007945392534851819 -0.0715849732814009972245305425258297386913
        -0.0282690503940683829090030572127122414672 |
        0.0964607668180652295181673131651287633371 0.01 0.4798896504144995747752495322905965199130
        1.3790085741037418931922748218568727707565 -3.2900695154360806799010475857113638501157
        2.3247105240997739824153559183987657961091""",
        b="""0.0964607668180652295181673131651287633371 0.01 0.4798896504144995747752495322905965199130
        1.3790085741037418931922748218568727707565 -3.2900695154360806799010475857113638501157
        2.3247105240997739824153559183987657961091 0""",
        b_hat="""0.0946807557658394580747887625575892285612 0.0091835655403432530967763639366453137598
        0.4877705284247615707855642599631228241517 1.2342975669304789856551096738842376540355
        -2.7077123499835254548811099750593216706896 1.8666284181705870357537193995662114986663 1/66""",
        source="Tsitouras 2011, doi:10.1016/j.camwa.2011.06.002, table 1",
        errata=(
            "The printed 16 digits were refined to 40 decimals (docs/notes/tableaus.md): c_2, c_3, c_4, a_72 and "
            "b_hat_7 are held, the order conditions give the rest; the largest change, 2.1e-15, is below half a unit "
            "in the last printed digit of a_52 = -11.74888356406283. The numbers printed as b_hat are the error "
            "weights b - b_hat, the last of them (1/66) with the wrong sign."
        ),
    ),
    tableau(
        name="dopri8",
        order=8,
        embedded_order=7,
        c="0 1/18 1/12 1/8 5/16 3/8 59/400 93/200 5490023248/9719169821 13/20 0.9246562776405044467 1 1",
        a="""
        1/18 |
        1/48 1/16 |
        1/32 0 3/32 |
        5/16 0 -75/64 75/64 |
        3/80 0 0 3/16 3/20 |
        0.0479101371111111111111111111111111111111 0 0 0.1122487127777777777777777777777777777778 -28693883/1125000000
        23124283/1800000000 |
        0.0169179897872922812042310360888616846387 0 0 0.3878482784860431691528802418769890573106
        0.0359773698515003278151738709549794306859 0.1969702142156660601936711848693087745517
        -0.1727138523405018383659563337901389471869 |
        0.0690957533591923006561297263355502861540 0 0 -0.6342479767288541520067927260020590598722
        -0.1611975752246040803939281642066143263505 0.1386503094588252554321291881470035450042
        0.9409286140357562698554483600203857090394 0.2116363264819439818553721171319021047635 |
        0.1835569968390453854418586481028336759567 0 0 -2.4687680843155924519585115514716765363638
        -0.2912868878163004562165543818579670517459 -12992083/490766935 2.8478387641928004483329301299444032155597
        0.2813873314698497925394036418267117820981 0.1237448998633146576270302126636397203122 |
        -1.2154248173958880577427666666515427688882 0 0 16.6726086659457724123751470334242437048385
        0.9157418284168179585501910974531138338709 -6.0566058043574709427873770473764277251204
        -16.0035735941561780919125803549125712700223 14.8493030862976625476607125977495975091635
        -13.3715757352898493096622376937662191623359 5.1341826481796379302189110340798058784938 |
        0.2588609164382642839692131347753892536474 0 0 -4.7744857854892051118963895261725520280621
        -0.4350930137770325093504324881302834432922 -3.0494833320722415021549974948591230226859
        5.5779200399360991160742681902116115570440 6.1558315898610400824537966016542527867656
        -5.0621045867369383573312473359772318246301 2.1939261731806790565421616734343586618285
        0.1346279986593349416936272450635780593847 |
        0.8224275996265074773162992258793836684723 0 0 -11.6586732572776642723699330634748302180690
        -0.7576221166909361947638596557033641935206 0.7139735881595815328611109183558202785925
        12.0757749868900567270370189504498309457625 -2.1276591139204026659004501312554391326731
        1.9901662070489554265205113126384380828621 -0.2342864715440402959305935306986491304409
        0.1758985777079422652298959738088096990143 0""",
        b="""0.0417474911415302462232780488607579678298 0 0 0 0 -0.0554523286112393088343710784574279812465
        0.2393128072011800970383810326880837522632 0.7035106694034430227111745985968297390532
        -0.7597596138144609294354703791288654051593 0.6605630309222863412036820558232897869757
        0.1581874825101233355261320478249851118436 -0.2381095387528628044328063262076529715597 1/4""",
        b_hat="""0.0295532136763534969899082885288268411654 0 0 0 0 -0.8286062764877970392372814510054831616619
        0.3112409000511183278823894709573673090330 2.4673451905998869807281421921240302689937
        -2.5469416518419087378254931953514023179742 1.4435485836767752397008904913845236516273
        0.0794155958811272873169997589176929643722 2/45 0""",
        source="Prince and Dormand 1981, doi:10.1016/0771-050X(81)90010-3, RK8(7)13M",
        errata=(
            "The printed fractions are rounded and satisfy the order conditions to 1e-17 only. They were refined to 40 "
            "decimals (docs/notes/tableaus.md): the numbers that stand here as fractions are held as printed, c_11 is "
            "held at 19 digits, the order conditions give the rest; the largest change is 2.9e-17, in a_11,8 = 14.85, "
            "the largest relative one 3.1e-17."
        ),
    ),
)

TABLEAUS: dict[str, Tableau] = {record.name: record for record in _RECORDS}

EULER = TABLEAUS["euler"]
MIDPOINT = TABLEAUS["midpoint"]
RK4 = TABLEAUS["rk4"]
DOPRI5 = TABLEAUS["dopri5"]
TSIT5 = TABLEAUS["tsit5"]
DOPRI8 = TABLEAUS["dopri8"]


def alpha2(alpha: Fraction | Decimal | float | str) -> Tableau:
    """The member of the family of two-stage methods of order 2 with its second stage at t_n + alpha h.

    c = (0, alpha), a_21 = alpha, b = (1 - 1 / (2 alpha), 1 / (2 alpha)): the midpoint method at 1/2, Ralston's at 2/3,
    Heun's at 1.

    Args:
        alpha: dimensionless, 0 < alpha <= 1. Text such as "2/3" is exact; a float stands for its binary value.

    Raises:
        InputError: alpha is not such a number.

    Examples:
        >>> alpha2("2/3").b
        (Fraction(1, 4), Fraction(3, 4))
    """
    try:
        exact = Fraction(alpha)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        exact = Fraction(0)
    if not 0 < exact <= 1:
        raise InputError(
            f"alpha2: alpha must be a number with 0 < alpha <= 1; got {alpha!r}. "
            "Choose for example '1/2' (midpoint), '2/3' (Ralston) or 1 (Heun)."
        )
    return Tableau(
        name=f"alpha2({alpha})",
        order=2,
        c=(Fraction(0), exact),
        a=((), (exact,)),
        b=(1 - 1 / (2 * exact), 1 / (2 * exact)),
        b_error=None,
        embedded_order=None,
        source="Ralston 1962, doi:10.1090/S0025-5718-1962-0150954-0",
    )
