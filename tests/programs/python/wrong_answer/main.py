print("6 7 41")
