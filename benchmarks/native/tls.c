/* TLS for the load generator, through OpenSSL.  Certificates are not verified: it only ever talks
   to the server that the benchmark has started.  Built without OPENSSL defined, every function
   ends the process with a message. */

#include "load.h"

#ifdef OPENSSL

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static SSL_CTX *context;

_Noreturn static void
tls_fail(const char *doing)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    fail("TLS: %s: %s", doing, reason);
}

void
tls_setup(void)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) {
        tls_fail("SSL_CTX_new");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                  | SSL_MODE_RELEASE_BUFFERS);
}

void
tls_open(Connection *c)
{
    c->tls = SSL_new(context);
    /* OpenSSL has no MSG_DONTWAIT. */
    if (c->tls == NULL || fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || !SSL_set_fd(c->tls, c->fd)) {
        tls_fail("SSL_new");
    }
    SSL_set_connect_state(c->tls);
    c->handshaking = true;
}

void
tls_close(Connection *c)
{
    SSL_free(c->tls);
    c->tls = NULL;
}

/* What a call that did not succeed wants. */
static int
wanted(Connection *c, int result, const char *doing)
{
    switch (SSL_get_error(c->tls, result)) {
    case SSL_ERROR_WANT_READ:
        return WAIT_TO_READ;
    case SSL_ERROR_WANT_WRITE:
        return WAIT_TO_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        tls_fail(doing);
    }
}

int
tls_handshake(Connection *c)
{
    ERR_clear_error();
    int result = SSL_do_handshake(c->tls);
    if (result == 1) {
        c->handshaking = false;
        return 1;
    }
    result = wanted(c, result, "handshake");
    if (result == 0) {
        fail("TLS: the server closed a connection during the handshake");
    }
    return result;
}

ssize_t
tls_receive(Connection *c, void *data, size_t length)
{
    ERR_clear_error();
    int n = SSL_read(c->tls, data, (int)length);
    return n > 0 ? n : wanted(c, n, "read");
}

ssize_t
tls_send(Connection *c, const void *data, size_t length)
{
    ERR_clear_error();
    int n = SSL_write(c->tls, data, (int)length);
    return n > 0 ? n : wanted(c, n, "write");
}

void
tls_make_certificate(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    FILE *file = fopen(path, "w");
    if (key == NULL || certificate == NULL || file == NULL) {
        fail("no certificate could be made in %s", path);
    }
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1,
                               -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -24 * 3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 30 * 24 * 3600);
    X509_set_pubkey(certificate, key);
    if (!X509_sign(certificate, key, EVP_sha256()) || !PEM_write_X509(file, certificate)
        || !PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) || fclose(file) != 0) {
        tls_fail("certificate");
    }
}

#else

_Noreturn static void
absent(void)
{
    fail("this load generator was built without OpenSSL's headers (Debian: libssl-dev)");
}

void
tls_setup(void)
{
    absent();
}

void
tls_open(Connection *c)
{
    (void)c;
    absent();
}

void
tls_close(Connection *c)
{
    (void)c;
}

int
tls_handshake(Connection *c)
{
    (void)c;
    absent();
}

ssize_t
tls_receive(Connection *c, void *data, size_t length)
{
    (void)c, (void)data, (void)length;
    absent();
}

ssize_t
tls_send(Connection *c, const void *data, size_t length)
{
    (void)c, (void)data, (void)length;
    absent();
}

void
tls_make_certificate(const char *path)
{
    (void)path;
    absent();
}

#endif
