"""Files that survive: written whole, locked between processes, shared by a node.

``durable``         the one way to write a file or a folder: whole or not at all, synced to disk
``free_space``      how much room a disk has
``set_aside``       another name for what is damaged
``private_folder``  a folder among temporary files that no other user can fill
``file_lock``       a lock between a node's processes that dies with its holder
``line_file``       lines of JSON that several processes add to
``regular``         reading what others made: regular files alone, of bounded length
``progress_bar``    a bar that no other process can make wait
``content_hash``    the hash of a file, read a little at a time
``node_arrays``     an array that one process writes and all of a node map, for orders of billions
"""
