import os

if os.fork() == 0:
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * 1_000_000))
os.wait()
print("all is well")
