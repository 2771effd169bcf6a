"""The model: blocks that a recipe names, put together into a masked language model."""
