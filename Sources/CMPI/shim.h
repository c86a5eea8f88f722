// What the ranks of a run ask of MPI: its constants are macros and its handles differ between implementations, so they stay on this side.
#pragma once
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Counts of MPI are ints: longer messages go in pieces.
#define TOUCHSTONE_MPI_PIECE ((int64_t)1 << 30)

// Whether this process was started, or may start alone. Calls come from one thread at a time.
static inline int touchstone_mpi_start(int *rank, int *count, int *local) {
    int provided = 0, error = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided);
    if (error) return error;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_SERIALIZED) return MPI_ERR_UNSUPPORTED_OPERATION;
    if ((error = MPI_Comm_rank(MPI_COMM_WORLD, rank))) return error;
    if ((error = MPI_Comm_size(MPI_COMM_WORLD, count))) return error;
    MPI_Comm machine;
    if ((error = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine))) return error;
    error = MPI_Comm_size(machine, local);
    MPI_Comm_free(&machine);
    return error;
}

static inline int64_t touchstone_mpi_pieces(int64_t bytes) {
    return (bytes + TOUCHSTONE_MPI_PIECE - 1) / TOUCHSTONE_MPI_PIECE;
}

// Sends rank r bytes source[from[r] ..< from[r] + sends[r]] and receives as many as it sends at target[to[r]]; what a rank has for itself is
// copied. Adds the bytes handed to MPI to *sent.
static inline int touchstone_mpi_exchange(
    int rank, int count, const char *source, const int64_t *from, const int64_t *sends, char *target, const int64_t *to,
    const int64_t *receives, int64_t *sent
) {
    int64_t requests = 0, made = 0;
    for (int r = 0; r < count; r++)
        if (r != rank) requests += touchstone_mpi_pieces(sends[r]) + touchstone_mpi_pieces(receives[r]);
    MPI_Request *list = (MPI_Request *)malloc((size_t)(requests + 1) * sizeof(MPI_Request));
    if (!list) return MPI_ERR_NO_MEM;
    int error = MPI_SUCCESS;
    for (int i = 1; i < count && !error; i++) {
        int r = (rank + count - i) % count;
        for (int64_t at = 0; at < receives[r] && !error; at += TOUCHSTONE_MPI_PIECE) {
            int64_t left = receives[r] - at, n = left < TOUCHSTONE_MPI_PIECE ? left : TOUCHSTONE_MPI_PIECE;
            error = MPI_Irecv(target + to[r] + at, (int)n, MPI_BYTE, r, 1, MPI_COMM_WORLD, &list[made]);
            if (!error) made++;
        }
    }
    for (int i = 1; i < count && !error; i++) {
        int r = (rank + i) % count;
        for (int64_t at = 0; at < sends[r] && !error; at += TOUCHSTONE_MPI_PIECE) {
            int64_t left = sends[r] - at, n = left < TOUCHSTONE_MPI_PIECE ? left : TOUCHSTONE_MPI_PIECE;
            error = MPI_Isend(source + from[r] + at, (int)n, MPI_BYTE, r, 1, MPI_COMM_WORLD, &list[made]);
            if (!error) { made++; *sent += n; }
        }
    }
    if (sends[rank] && target + to[rank] != source + from[rank])
        memmove(target + to[rank], source + from[rank], (size_t)sends[rank]);
    if (!error) error = MPI_Waitall((int)made, list, MPI_STATUSES_IGNORE);
    free(list);
    return error;
}

static inline int touchstone_mpi_send(const void *bytes, int count, int rank) {
    return MPI_Send(bytes, count, MPI_BYTE, rank, 2, MPI_COMM_WORLD);
}

static inline int touchstone_mpi_receive(void *bytes, int count, int rank) {
    return MPI_Recv(bytes, count, MPI_BYTE, rank, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

// Waits for all ranks to come here, at most so long; whether they came.
static inline int touchstone_mpi_meet(double seconds) {
    MPI_Request request;
    if (MPI_Ibarrier(MPI_COMM_WORLD, &request)) return 0;
    double end = MPI_Wtime() + seconds;
    for (;;) {
        int done = 0;
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE)) return 0;
        if (done) return 1;
        if (MPI_Wtime() > end) return 0;
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    }
}

static inline void touchstone_mpi_finish(void) { MPI_Finalize(); }

static inline void touchstone_mpi_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

// Into at least touchstone_mpi_text() bytes.
static inline int touchstone_mpi_text(void) {
    return MPI_MAX_ERROR_STRING > MPI_MAX_LIBRARY_VERSION_STRING ? MPI_MAX_ERROR_STRING : MPI_MAX_LIBRARY_VERSION_STRING;
}

static inline void touchstone_mpi_message(int error, char *text) {
    int length = 0;
    if (MPI_Error_string(error, text, &length)) text[0] = 0;
}

static inline void touchstone_mpi_version(char *text) {
    int length = 0;
    if (MPI_Get_library_version(text, &length)) text[0] = 0;
}
