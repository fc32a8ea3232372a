"""From nowhere to draws: scattered starts, a climb, warming up in windows, and draws with their diagnosis."""
