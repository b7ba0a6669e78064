#include <stdio.h>
#include <unistd.h>

int main(int count, char **words)
{
    printf("Hello, %s. I am user %d.\n", count > 1 ? words[1] : "world", (int)getuid());
    return 0;
}
