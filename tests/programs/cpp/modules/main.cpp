#include <iostream>
#include "shapes/square.hpp"

int main() {
    std::cout << area(7) << '\n';
}
