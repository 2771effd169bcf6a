"""To and from Hugging Face folders: one file per family, and what they share.

``export``, ``importing``   the two commands; each compares logits with transformers' own first
``families``, ``family``    which family a model is of, and what every family declares
``modernbert``, ``bert``, ``roberta``, ``nomicbert``, ``gte``, ``eurobert``   the families
``rotary_bert``, ``rope_keys``           what the three newer ones share
``config_keys``, ``activation_names``, ``parameter_names``   keys and tensors, theirs and ours
``folder``, ``tokenizer``   reading a folder without running code of its own
``tokenizer_agreement``     whether AutoTokenizer gives what a corpus has
``compare``      the same documents through both implementations
``sentence_transformers``   the files that make it a folder of that library too
``quiet``        transformers without its remarks

A family is a table of config keys, a list of fields that it cannot vary, and a table of tensor
names; adding one is a file and an entry in ``families``. Nothing here imports transformers before
it is called. Folders of transformers 4.57 and of 5 are read, and exports load in both.
"""
