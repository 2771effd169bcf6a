"""``python -m flexbert.nn.attention_backends`` prints the table of docs/attention.md."""

from flexbert.nn.attention_backends.support_table import support_table

print(support_table(), end="")
