"""Does anything that a user may type, declare or interrupt end in a traceback, a wait for ever, or a loss?"""
