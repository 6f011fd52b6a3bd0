"""The pictures as SVG and as text: pure functions of what they are told, for exports and machines without a screen."""
