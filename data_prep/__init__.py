"""From text to a corpus: tokenizer, tokenized shards, reports. Run as ``python -m data_prep``.

The steps are separate and meet in plain interfaces, so that another engine can run them:

========================  ======================================================================
``sources``               finds input files and cuts them into pieces and parts
``readers``               piece of a file -> documents (``str``) and rejects
``encoding``              documents -> token ids
``parts``                 part -> one folder of tokens, lengths and hashes (restartable, parallel)
``shards``                parts -> MDS shards of the two splits, and back
``report``, ``spans``     what the finished corpus holds
========================  ======================================================================
"""
