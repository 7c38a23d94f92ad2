hoard = []
while True:
    hoard.append(bytearray(b"x" * 1_000_000))
