"""The four UCI tables: columns, allowed values, address, and what there is to know before using them."""

from __future__ import annotations

from convexnn.datasets.tables import Column, Table

UCI = "https://archive.ics.uci.edu/static/public"

_LICENCE = """
Origin: UCI Machine Learning Repository, licence CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/).
"""

_LETTERS = ("A", "B", "C", "D", "E")

SERVO = Table(
    name="servo",
    columns=(
        Column("motor", categories=_LETTERS),
        Column("screw", categories=_LETTERS),
        Column("pgain", 3, 6, integer=True),
        Column("vgain", 1, 5, integer=True),
        Column("class", 0.13, 7.11),
    ),
    n_rows=167,
    features=("motor", "screw", "pgain", "vgain"),
    target="class",
    url=f"{UCI}/87/servo.zip",
    member="servo.data",
    sha256="9ebb659d324f607903848871419aa41f1ccca3615abfd8843dc07e0387fea187",
    description=f"""Servo: rise time of a servomechanism
====================================
{_LICENCE}
Ulrich, K. (1986). Servo. https://doi.org/10.24432/C5Q30F

167 rows. Features: ``motor`` and ``screw`` (letters A to E, kinds without an order of their own), ``pgain`` (3 to 6)
and ``vgain`` (1 to 5), the two gain settings. Target ``class``: the rise time, 0.13 to 7.11, a number in spite of its
name.

Encoding: "ordinal" writes A, B, C, D, E as 0, 1, 2, 3, 4, "onehot" as five columns ``motor=A`` ... ``motor=E`` of 0
and 1. A radius or a Lipschitz constant in a coded column is not one in any physical unit.
""",
)

_MACHINE_FEATURES = ("MYCT", "MMIN", "MMAX", "CACH", "CHMIN", "CHMAX")

MACHINE = Table(
    name="machine",
    columns=(
        Column("VendorName", text=True),
        Column("Model", text=True),
        Column("MYCT", 17, 1500, integer=True),
        Column("MMIN", 64, 32000, integer=True),
        Column("MMAX", 64, 64000, integer=True),
        Column("CACH", 0, 256, integer=True),
        Column("CHMIN", 0, 52, integer=True),
        Column("CHMAX", 0, 176, integer=True),
        Column("PRP", 6, 1150, integer=True),
        Column("ERP", 15, 1238, integer=True),
    ),
    n_rows=209,
    features=_MACHINE_FEATURES,
    target="PRP",
    url=f"{UCI}/29/computer+hardware.zip",
    member="machine.data",
    sha256="e73d7a62c072f6b61136eae2e6c260e471fdb6e8f23ec6c00e13a841db0c6459",
    description=f"""Computer Hardware: relative performance of processors
=====================================================
{_LICENCE}
Feldmesser, J. (1987). Computer Hardware. https://doi.org/10.24432/C5830D

209 rows. Features: ``MYCT`` machine cycle time (ns), ``MMIN`` and ``MMAX`` main memory (kB), ``CACH`` cache (kB),
``CHMIN`` and ``CHMAX`` channels. Target ``PRP``: the published relative performance, 6 to 1150. ``ERP``, the
estimate of the original article, is a prediction of the target and never a feature; ``Model`` is a name of its own in
every row.

Encoding of ``VendorName`` (30 vendors): "drop" leaves it out, "ordinal" puts its place in the sorted list of vendors
in front, "onehot" thirty columns ``VendorName=adviser`` and so on.
""",
)

SOLAR_FLARE = Table(
    name="solar_flare",
    columns=(
        Column("class", categories=("A", "B", "C", "D", "E", "F", "H")),
        Column("largest_spot_size", categories=("X", "R", "S", "A", "H", "K")),
        Column("spot_distribution", categories=("X", "O", "I", "C")),
        Column("activity", 1, 2, integer=True),
        Column("evolution", 1, 3, integer=True),
        Column("past_activity", 1, 3, integer=True),
        Column("historically_complex", 1, 2, integer=True),
        Column("hc_past", 1, 2, integer=True),
        Column("area", 1, 2, integer=True),
        Column("area_largest", 1, 2, integer=True),
        Column("C", 0, 8, integer=True),
        Column("M", 0, 5, integer=True),
        Column("X", 0, 2, integer=True),
    ),
    n_rows=1066,
    features=(
        "class",
        "largest_spot_size",
        "spot_distribution",
        "activity",
        "evolution",
        "past_activity",
        "historically_complex",
        "hc_past",
        "area",
        "area_largest",
    ),
    target="C",
    url=f"{UCI}/89/solar+flare.zip",
    member="flare.data2",
    sha256="5be804a9921d3b8a8186882acc9e44bace66307e0b2da30a33f1e7c0dccf5fc3",
    description=f"""Solar Flare: flares of an active region in the next 24 hours
============================================================
{_LICENCE}
Solar Flare (1989). https://doi.org/10.24432/C5530G

1066 rows (the file ``flare.data2``). Features: three letter codes of the spot group (``class``, the modified Zurich
class; ``largest_spot_size``; ``spot_distribution``) and seven small integers. Target ``C``: the number of common
(C-class) flares, 0 to 8, mostly 0. The counts ``M`` and ``X`` of moderate and severe flares are other targets of the
table and never features.

Encoding: "ordinal" numbers the letters in the order of the origin's documentation: A, B, C, D, E, F, H as 0 to 6; X, R,
S, A, H, K as 0 to 5; X, O, I, C as 0 to 3. "onehot" writes one column of 0 and 1 per letter.

Quirks: ``area_largest`` is 1 in every row, so it carries nothing and has no scale; there are only 244 distinct rows of
features, so no model without randomness reaches error 0 and activation patterns repeat.
""",
    titled=True,
)

_WINE_FEATURES = (
    Column("fixed_acidity", 4, 16),
    Column("volatile_acidity", 0.1, 1.6),
    Column("citric_acid", 0, 1),
    Column("residual_sugar", 0.5, 16),
    Column("chlorides", 0.01, 0.62),
    Column("free_sulfur_dioxide", 1, 73),
    Column("total_sulfur_dioxide", 5, 290),
    Column("density", 0.99, 1.004),
    Column("pH", 2.7, 4.1),
    Column("sulphates", 0.3, 2.1),
    Column("alcohol", 8, 15),
)

WINE_QUALITY = Table(
    name="wine_quality",
    columns=(*_WINE_FEATURES, Column("quality", 0, 10, integer=True)),
    n_rows=1599,
    features=tuple(column.name for column in _WINE_FEATURES),
    target="quality",
    url=f"{UCI}/186/wine+quality.zip",
    member="winequality-red.csv",
    sha256="228372b9c106bcbb50ce14bb616873495975bd761d2641cfd02900427f1ff8be",
    description=f"""Wine Quality: taste of red vinho verde from its chemistry
=========================================================
{_LICENCE}
Cortez, P., Cerdeira, A., Almeida, F., Matos, T., Reis, J. (2009). Wine Quality. https://doi.org/10.24432/C56S3T

1599 rows (the red wines). Features: eleven measurements, in g/dm3 except ``volatile_acidity`` (g/dm3 of acetic acid),
the sulfur dioxides (mg/dm3), ``density`` (g/cm3), ``pH`` and ``alcohol`` (% by volume). Target ``quality``: median
score of at least three tasters, 0 to 10, in these rows 3 to 8. 240 rows repeat an earlier one.
""",
)
