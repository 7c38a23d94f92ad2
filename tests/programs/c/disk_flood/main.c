#include <fcntl.h>
#include <unistd.h>

int main(void) {
    static char block[100000];
    int file = open("flood", O_WRONLY | O_CREAT, 0600);
    while (write(file, block, sizeof block) > 0);
    return 1;
}
