// Threads: a counter under a mutex and an atomic one, variables of each thread, a queue with conditions, a barrier, values handed
// back, a key's destructor, and processes beside.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 5000, ITEMS = 2000, ROOM = 16 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long counted;
static atomic_long counted_atomically;
static __thread int own;
static pthread_barrier_t barrier;
static pthread_key_t key;
static atomic_int destroyed;

static void destroy(void *value)
{
    destroyed += (int)(long)value;
}

static void *count(void *argument)
{
    own = (int)(long)argument;
    pthread_setspecific(key, argument);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        counted++;
        pthread_mutex_unlock(&lock);
        counted_atomically++;
        own += 1;
    }
    pthread_barrier_wait(&barrier);
    return (void *)(long)own;
}

static int queue[ROOM], first, held;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;

static void *produce(void *argument)
{
    (void)argument;
    for (int i = 1; i <= ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (held == ROOM)
            pthread_cond_wait(&not_full, &lock);
        queue[(first + held++) % ROOM] = i;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

static long consume(void)
{
    long sum = 0;
    for (int i = 0; i < ITEMS; i++) {
        pthread_mutex_lock(&lock);
        while (held == 0)
            pthread_cond_wait(&not_empty, &lock);
        // in the order in which they were put
        sum = sum * 7 % 1000003 + queue[first];
        first = (first + 1) % ROOM;
        held--;
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&lock);
    }
    return sum;
}

int main(void)
{
    pthread_t threads[THREADS], producer;
    pthread_barrier_init(&barrier, 0, THREADS);
    pthread_key_create(&key, destroy);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], 0, count, (void *)(i * 100));
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("thread %d: %ld\n", i, (long)result);
    }
    printf("%ld %ld %d %d\n", counted, (long)counted_atomically, own, (int)destroyed);
    pthread_create(&producer, 0, produce, 0);
    printf("%ld\n", consume());
    pthread_join(producer, 0);

    atomic_int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    for (int i = 1; i <= 5; i++) {
        if (fork() == 0) {
            *shared += i * i;
            _exit(i);
        }
    }
    int statuses = 0, status;
    while (wait(&status) > 0)
        statuses += WEXITSTATUS(status);
    printf("%d %d\n", (int)*shared, statuses);
    return 0;
}
