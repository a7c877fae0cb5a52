"""The releases of MiniCPM-V whose layouts the demo has.

Knows no checkpoint; where each release's lie is its layout's `folder`.
"""

from service.demo.layout import Layout
from service.demo.minicpmv4_5.layout import MiniCPMV45
from service.demo.minicpmv4_6.layout import MiniCPMV46

LAYOUTS: dict[str, Layout] = {"4.6": MiniCPMV46(), "4.5": MiniCPMV45()}
