# A small base image made of Debian's busybox-static, with nothing to download.
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc /tmp /root /usr/local && chmod 1777 /tmp && echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
ENV PATH=/usr/local/bin:/bin
CMD ["/bin/sh"]
