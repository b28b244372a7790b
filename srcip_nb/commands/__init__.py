"""The commands of the shell, a module each: ``add_to(commands)`` names its options and the function that runs it.

They read arguments and print; what they do is done by the modules around them.
"""
