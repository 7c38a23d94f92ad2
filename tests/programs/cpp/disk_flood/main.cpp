#include <fstream>
#include <string>

int main() {
    std::ofstream file("flood");
    while (file << std::string(100000, 'x'));
    return 1;
}
