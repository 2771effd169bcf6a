"""What a trained model can do: suites of tasks, and the data that needs no download.

``offline``   five tasks from the text of installed packages
"""
