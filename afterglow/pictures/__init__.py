"""Pictures of what a shop wrote, as SVG: a flow with the people on its steps, and the journey with all flows.

A picture is made of what is compiled and of figures that the caller has counted; the same gives the same bytes. Words
are real text, so that they can be found, copied and read aloud. `lettering` says how much room words take, `drawing`
turns boxes and lines into SVG, `flows` and `journeys` say where each thing stands.
"""

from afterglow.pictures.drawing import STYLE, Here
from afterglow.pictures.flows import flow_picture
from afterglow.pictures.journeys import Figures, journey_picture

__all__ = ["STYLE", "Figures", "Here", "flow_picture", "journey_picture"]
