"""Files that survive: written whole, locked between processes, shared by a node.

``durable``      the one way to write a file or a folder: whole or not at all, synced to disk
``file_lock``    a lock between a node's processes that dies with its holder
``regular``      reading what others made: regular files alone, of bounded length
``node_arrays``  an array that one process writes and all of a node map, for orders of billions
"""
