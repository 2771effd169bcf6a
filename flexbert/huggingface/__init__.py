"""To and from Hugging Face folders: one file per family, and what they share.

A family is a table of config keys, a list of fields that it cannot vary, and a table of tensor
names. Nothing here imports transformers before it is called.
"""
