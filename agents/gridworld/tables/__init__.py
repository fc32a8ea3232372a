"""Tables of what happens, pooled over tokens: prior and posterior."""
