with open("flood", "wb") as file:
    while True:
        file.write(b"x" * 100_000)
