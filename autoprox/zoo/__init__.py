"""The zoo: every proxy of the literature by name, those that are formulas of our language first.

`ZOO[name].score(model, inputs, targets, seed=…)` scores a model; `tvt(teacher)` makes the one entry that needs more.
To add a proxy, write its record in formulas.py or, where the language cannot say it, in functions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autoprox.zoo.formulas import FORMULAS
from autoprox.zoo.functions import FUNCTIONS, tvt
from autoprox.zoo.record import COSTS, ZooProxy
from autoprox.zoo.tools import ZooError

__all__ = ["COSTS", "ZOO", "ZooError", "ZooProxy", "tvt"]

#: name → proxy, in the order in which they are shown.
ZOO: Mapping[str, ZooProxy] = MappingProxyType({proxy.name: proxy for proxy in (*FORMULAS, *FUNCTIONS)})
