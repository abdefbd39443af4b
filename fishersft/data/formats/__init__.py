"""What a row means: finding its format from its fields, and making the example that it holds."""

from fishersft.data.formats.detection import format_in_words
from fishersft.data.formats.reading import example_of

__all__ = ["example_of", "format_in_words"]
