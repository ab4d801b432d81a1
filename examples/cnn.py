"""A convolutional network on MNIST: two convolutions with pooling, two dense layers; SGD with momentum, batches of 100, 2 epochs.

A laboratory's program for MyGrad, MyNN and noggin. Changed: the layers are mulgil's, and gradients are cleared by hand.
"""

import numpy as np
import mulgil as mg

import matplotlib.pyplot as plt

from mulgil.data.datasets import load_mnist, download_mnist
download_mnist()

# mnist 데이터셋을 불러와서 학습용/테스트용 이미지/라벨 을 저장
x_train, y_train, x_test, y_test = load_mnist()

img_id = 5

fig, ax = plt.subplots()
ax.imshow(x_train[img_id, 0], cmap="gray")
ax.set_title(f"truth: {y_train[img_id]}");

x_train = x_train.astype(np.float32)
x_test = x_test.astype(np.float32)

x_train /= 255.
x_test /= 255.

print(x_test.shape)

x_train = np.pad(x_train, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="constant")
x_test = np.pad(x_test, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="constant")

from mulgil.nn import Conv2d, Linear
from mulgil.nn.functional import relu, max_pool2d as max_pool
from mulgil.nn.init import glorot_uniform_, zeros_


def conv(input_size, output_size, filter_size, weight_initializer, weight_kwargs):
    layer = Conv2d(input_size, output_size, filter_size)
    weight_initializer(layer.weight, **weight_kwargs)
    zeros_(layer.bias)
    return layer


def dense(input_size, output_size, weight_initializer, weight_kwargs):
    layer = Linear(input_size, output_size)
    weight_initializer(layer.weight, **weight_kwargs)
    zeros_(layer.bias)
    return layer


class Model:
    ''' 간단한 CNN (Convolutional Neural Network) '''

    def __init__(self, num_input_channels, f1, f2, d1, num_classes):
        init_kwargs = {'gain': np.sqrt(2)}
        self.conv1 = conv(num_input_channels, f1, 5,
                          weight_initializer=glorot_uniform_,
                          weight_kwargs=init_kwargs)
        self.conv2 = conv(f1, f2, 5,
                          weight_initializer=glorot_uniform_,
                          weight_kwargs=init_kwargs)
        self.dense1 = dense(f2 * 5 * 5, d1,
                            weight_initializer=glorot_uniform_,
                            weight_kwargs=init_kwargs)
        self.dense2 = dense(d1, num_classes,
                            weight_initializer=glorot_uniform_,
                            weight_kwargs=init_kwargs)

    def __call__(self, x):
        ''' 입력 데이터에 따른 모델의 순전파(Forward Propagation)를 수행: (N, 1, 32, 32) -> (N, num_classes) '''
        x = relu(self.conv1(x))
        x = max_pool(x, (2, 2), 2)
        x = relu(self.conv2(x))
        x = max_pool(x, (2, 2), 2)
        x = relu(self.dense1(x.reshape(x.shape[0], -1)))
        return self.dense2(x)

    @property
    def parameters(self):
        """ 모델 파라미터를 리스트 형태로 전부 가져올 수 있는 유용한 함수 """
        params = []
        for layer in (self.conv1, self.conv2, self.dense1, self.dense2):
            params += list(layer.parameters())
        return params


def accuracy(predictions, truth):
    """ 하나의 batch에 대한 모델의 예측값과 실제값을 비교하여, 정확도를 계산하는 함수 """
    return np.mean(np.argmax(predictions, axis=1) == truth)


from mulgil.optim import SGD

model = Model(f1=20, f2=10, d1=20, num_input_channels=1, num_classes=10)
optim = SGD(model.parameters, lr=0.01, momentum=0.9, weight_decay=5e-04)

from mulgil.plot import create_plot

plotter, fig, ax = create_plot(["loss", "accuracy"])

from mulgil.nn.functional import softmax_crossentropy

batch_size = 100

for epoch_cnt in range(2):

    idxs = np.arange(len(x_train))
    np.random.shuffle(idxs)

    for batch_cnt in range(len(x_train)//batch_size):
        # idxs 배열을 이용하여 batch_cnt번째 batch 구성하기
        batch_indices = idxs[batch_cnt*batch_size : (batch_cnt + 1)*batch_size]
        batch = x_train[batch_indices]  # random batch of our training data

        # prediction : batch에 대한 예측값
        prediction = model(batch)

        # truth : batch에 대한 실제값
        truth = y_train[batch_indices]

        # loss : softmax_crossentropy() 이용하여 loss 계산
        loss = softmax_crossentropy(prediction, truth)

        # 경사하강법 진행에 필요한 모든 편미분계수를 얻기 위해
        # loss에 대해 .backward() 메서드 실행
        optim.zero_grad()
        loss.backward()

        # optim의 step() 실행하여 경사하강법 진행
        optim.step()

        # accuracy: 앞서 작성한 accuracy() 이용한 정확도 계산
        acc = accuracy(prediction, truth)

        # 학습 중 loss와 accuracy를 추적
        plotter.set_train_batch({"loss" : loss.item(),
                                 "accuracy" : acc},
                                 batch_size=batch_size)

    # 테스트용 데이터셋의 batch들에 대해 모델을 평가
    for batch_cnt in range(0, len(x_test)//batch_size):
        idxs = np.arange(len(x_test))
        batch_indices = idxs[batch_cnt*batch_size : (batch_cnt + 1)*batch_size]
        batch = x_test[batch_indices]

        # 역전파가 필요없는 부분이므로, 그래디언트 계산이 이뤄지지 않도록
        with mg.no_autodiff:
            # prediction : 테스트 batch에 대한 예측값
            prediction = model(batch)

            # truth : 테스트 batch에 대한 실제값
            truth = y_test[batch_indices]

            # accuracy: 앞서 작성한 accuracy() 이용한 정확도 계산
            acc = accuracy(prediction, truth)

        plotter.set_test_batch({"accuracy": acc}, batch_size=batch_size)

    plotter.set_train_epoch()
    plotter.set_test_epoch()
plotter.plot()

_, _, img_test, label_test = load_mnist()

# MNIST의 라벨로 이루어진 튜플.
# ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
labels = load_mnist.labels


def plot_model_prediction(index):
    '''index를 입력받아 index에 해당하는 이미지와 예측 결과를 시각화하는 함수'''

    true_label_index = label_test[index]
    true_label = load_mnist.labels[true_label_index]

    with mg.no_autodiff:
        # model에 입력해주는 데이터는 4차원이어야 하기 때문에
        # 축 하나가 사라지지 않도록 인덱스 설정
        prediction = model(x_test[index : index + 1])

        # 가장 점수가 높은 라벨이 예측값이 됨
        predicted_label_index = np.argmax(prediction.data, axis=1).item()
        predicted_label = labels[predicted_label_index]

    # 이미지, 실제 라벨, 예측 라벨 모두 시각화
    fig, ax = plt.subplots()
    ax.imshow(img_test[index, 0], cmap="gray")
    ax.set_title(f"Predicted: {predicted_label}\nTruth: {true_label}")

    return fig, ax


# x_test의 랜덤 데이터를 시각화
index = np.random.randint(0, len(x_test))
plot_model_prediction(index);

# 예측이 틀린 모든 사례 찾아서 해당 인덱스를 bad_indices에 저장
bad_indices = []

for batch_cnt in range(0, len(x_test) // batch_size):
    idxs = np.arange(len(x_test))
    batch_indices = idxs[batch_cnt * batch_size : (batch_cnt + 1) * batch_size]
    batch = x_test[batch_indices]

    with mg.no_autodiff:
        # test-batch에 대한 모델의 예측 라벨
        prediction = np.argmax(model(batch), axis=1)

        # test-batch에 대한 실제 라벨
        truth = y_test[batch_indices]

        # 예측과 실제가 다른 경우의 모든 인덱스를 저장
        (bad,) = np.where(prediction != truth)
        if bad.size:
            bad_indices.extend(batch_indices[bad].tolist())

print(f"test accuracy: {1 - len(bad_indices) / len(x_test):.4f}, mistakes: {len(bad_indices)}")

# bad_indices의 랜덤 데이터를 시각화
index = np.random.randint(0, len(bad_indices))
plot_model_prediction(bad_indices[index]);
plt.show()
