"""From text to a corpus: tokenizer, tokenized shards, reports. Run as ``python -m data_prep``.

The steps are separate and meet in plain interfaces, so that another engine can run them:

=================  =============================================================================
``input_options``  what is said of each input; ``folders`` and ``formats``, what files it has
``sources``        finds input files and cuts them into pieces and parts
``input_checks``   their columns, before anything is tokenized
``readers``        piece of a file -> documents and rejects
``document_transforms``   what changes or rejects a document before it is tokenized
``tokenizer_training``, ``tokenizer_adapting``   a new tokenizer, or an existing one made fit
``training_text``, ``tokenizer_kinds``, ``tokenizer_report``   what a new one is trained on, how it
                   learns each kind, and how much text its tokens stand for
``tokenizer_folder``        the tokenizer of a corpus: read, checked against AutoTokenizer, written
``encoding``       documents -> token ids
``tokenization``   part -> one folder of tokens, lengths and hashes; the parts on all cores
``parts``          that folder, which is all that reading and writing share
``duplicates``     parts -> which documents repeat an earlier one
``selection``      parts -> the documents of each split, in order
``shards``         documents -> one MDS shard; ``splits`` writes all of them on all cores
``build_corpus``   the steps one after the other, on one machine; ``merge``, after several
``survey``         counts by length, label and input; ``corpus_report``, ``input_report`` and
                   ``corpus_pictures`` show them
=================  =============================================================================
"""
