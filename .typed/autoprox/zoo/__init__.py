"""The zoo: the proxies of the literature by name; first those that are formulas of our language, then functions.

`ZOO[name].score(model, inputs, targets, seed=…)` scores a model. The proxy TVT also needs a teacher, so it is no entry:
`tvt(teacher)` returns it. To add a proxy, write its record in formulas.py or, where the language cannot say it, in
functions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autoprox.zoo.formulas import FORMULAS
from autoprox.zoo.functions import FUNCTIONS, tvt
from autoprox.zoo.record import COSTS, ZooProxy
from autoprox.zoo.tools import ZooError

__all__ = ["COSTS", "ZOO", "ZooError", "ZooProxy", "tvt"]

#: name → proxy, in the order in which `autoprox proxies` shows them.
ZOO: Mapping[str, ZooProxy] = MappingProxyType({proxy.name: proxy for proxy in (*FORMULAS, *FUNCTIONS)})
