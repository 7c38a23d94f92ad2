int depth(int n) {
    volatile char frame[4096];
    frame[0] = n;
    return depth(n + 1) + frame[0];
}

int main(void) {
    return depth(0);
}
